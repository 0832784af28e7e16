"""Generation in jobs/prepare.py: E2E, WebNLG and tables, as prompt, end-of-text, space and target, end-of-text."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from preparing import byte_level, gpt2_like, made, model_folder, prepare, rows_of, texts_of, write
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

VAULTS = "name[The Vaults], eatType[pub], priceRange[more than £30], customer rating[5 out of 5], near[Café Adriatic]"
ALIMENTUM = "name[Alimentum], area[city centre], familyFriendly[no]"
ROWS = [
    (VAULTS, "The Vaults pub near Café Adriatic has a 5 star rating. Prices start at £30."),
    (ALIMENTUM, "There is a place in the city centre, Alimentum, that is not family-friendly."),
    (VAULTS, " Close to Café Adriatic is The Vaults."),
    (VAULTS, "Close to Café Adriatic is The Vaults."),
]
PROMPTS = {
    VAULTS: "name : The Vaults | Type : pub | price : more than £30 | customer rating : 5 out of 5 | near : Café Adriatic",
    ALIMENTUM: "name : Alimentum | area : city centre | family friendly : no",
}
TEXTS = [text for row in ROWS for text in row] + list(PROMPTS.values())


def table(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("mr", "ref")) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return write(path, text.getvalue())


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    return gpt2_like(tmp_path / "gpt2", TEXTS, n_positions=512)


def test_e2e_is_prompt_and_reference_with_an_end_each(tmp_path: Path, gpt2: Path) -> None:
    transformers = pytest.importorskip("transformers")
    train, out = table(tmp_path / "trainset.csv", ROWS), tmp_path / "o.h5"
    made("e2e", "--train", train, "--test", train, "--model", gpt2, "--output", out)
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(gpt2 / "tokenizer.json"))
    with h5py.File(out) as file:
        assert (file.attrs["task"], file.attrs["max_length"]) == ("generation", 512)
        assert file.attrs["metrics"] == "bleu,nist,meteor,rouge_l,cider"
        assert file["target"].dtype == file["item"].dtype == np.int32
        target = file["target"][:]
        for (mr, ref), tokens, at in zip(ROWS * 2, rows_of(file, "tokens"), target):
            prompt, text = reference(PROMPTS[mr])["input_ids"], reference(" " + ref.strip())["input_ids"]
            assert tokens.tolist() == [*prompt, 0, *text, 0]
            assert at == len(prompt) + 1
        assert reference.decode(rows_of(file, "tokens")[0][target[0] :]) == f" {ROWS[0][1]}<|endoftext|>"
        assert texts_of(file, "class_name") == ["none", "pub"]
        assert file["labels"][:].tolist() == [1, 0, 1, 1] * 2
        assert file["item"][:].tolist() == [0, 1, 0, 0, 2, 3, 2, 2]
        assert texts_of(file, "item_id") == ["train-1", "train-2", "test-1", "test-2"]
        assert texts_of(file, "item_text") == [PROMPTS[VAULTS], PROMPTS[ALIMENTUM]] * 2
        references = [json.loads(text) for text in texts_of(file, "item_references")]
        assert references == [[ROWS[0][1], ROWS[3][1]], [ROWS[1][1]]] * 2
        assert "token_types" not in file and "client" not in file
    page = made("--describe", out).stdout
    assert "targets: 8 of 4 prompts" in page and "references: 2" in page
    assert f"    target, from token {target[0]}:  {ROWS[0][1]}<|endoftext|>" in page


def test_references_are_those_of_the_rows_own_split(tmp_path: Path, gpt2: Path) -> None:
    train, test = table(tmp_path / "a.csv", ROWS), table(tmp_path / "b.csv", [(VAULTS, "Another text.")])
    out = tmp_path / "o.h5"
    made(
        "e2e", "--train", train, "--test", test, "--model", gpt2, "--output", out, "--client", "near", "--label", "area"
    )
    with h5py.File(out) as file:
        assert json.loads(texts_of(file, "item_references")[-1]) == ["Another text."]
        assert texts_of(file, "client_name") == ["Café Adriatic", "none"]
        assert file["client"][:].tolist() == [0, 1, 0, 0, 0]
        assert texts_of(file, "class_name") == ["city centre", "none"]


def test_without_a_test_file_a_prompt_is_in_one_split(tmp_path: Path, gpt2: Path) -> None:
    rows = [(f"name[Place {i % 25}], area[riverside]", f"Text {i}.") for i in range(100)]
    out = tmp_path / "o.h5"
    made("e2e", "--train", table(tmp_path / "a.csv", rows), "--model", gpt2, "--output", out)
    with h5py.File(out) as file:
        assert Counter(file["split"][:].tolist()) == {0: 80, 2: 20}
        assert Counter(Counter(file["item"][:].tolist()).values()) == {4: 25}


def test_a_model_with_a_beginning_has_it_first(tmp_path: Path) -> None:
    """As Llama's: a beginning that is not the end, and a tokenizer that puts the space before a text itself."""
    tokenizer = Tokenizer(models.BPE(
        {"<unk>": 0, "<s>": 1, "</s>": 2, **{c: i for i, c in enumerate("\u2581abcd", 3)}, "\u2581c": 8}, [("\u2581", "c")],
        unk_token="<unk>",
    ))  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Metaspace()
    model = model_folder(tmp_path / "llama", tokenizer, model_type="llama", bos_token_id=1, eos_token_id=[2, 7])
    train, out = table(tmp_path / "t.csv", [("ab", "cd")], ("text", "target")), tmp_path / "o.h5"
    made("csv", "--task", "generation", "--train", train, "--test", train, "--model", model, "--output", out)
    with h5py.File(out) as file:
        assert rows_of(file, "tokens")[0].tolist() == [1, 3, 4, 5, 2, 8, 7, 2]
        assert file["target"][:].tolist() == [5, 5]


def test_long_prompts_lose_their_left_end_and_long_targets_are_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["?", *"abcdefgh", "<end>"])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model = model_folder(tmp_path / "words", tokenizer, model_type="gpt2", eos_token_id=9)
    rows = [{"text": "a b c d e", "target": "f g"}, {"text": "a b", "target": "f"}, {"text": "a", "target": "b c d e"},
            {"text": "a", "target": "b c d e f"}]  # fmt: skip
    train = write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "o.h5"
    common = ["jsonl", "--task", "generation", "--train", train, "--test", train, "--model", model, "--output", out]
    done = made(*common, "--max-length", 7)
    with h5py.File(out) as file:
        assert [row.tolist() for row in rows_of(file, "tokens")[:3]] == [[3, 4, 5, 9, 6, 7, 9], [1, 2, 9, 6, 9],
                                                                     [1, 9, 2, 3, 4, 5, 9]]  # fmt: skip
        assert file["target"][:3].tolist() == [4, 3, 2]
        assert texts_of(file, "item_text")[0] == "a b c d e"
        assert texts_of(file, "class_name") == ["text"]
    assert "rows refused: 2, target too long for --max-length 7 (t.jsonl:4, t.jsonl:4)" in done.stderr
    assert "prompts cut from their left to fit 7 tokens: 2" in done.stdout
    assert prepare(*common, "--overwrite", "--max-length", 7, "--strict").returncode == 3
    nothing = prepare(*common, "--overwrite", "--max-length", 4)
    assert nothing.returncode == 0  # of 'f' there is a row still
    assert prepare(*common, "--overwrite", "--max-length", 3).returncode == 2


def test_targets_that_never_fit_are_an_input_error(tmp_path: Path, gpt2: Path) -> None:
    train = table(tmp_path / "t.csv", ROWS)
    done = prepare(
        "e2e", "--train", train, "--test", train, "--model", gpt2, "--output", tmp_path / "o.h5", "--max-length", 8
    )
    assert done.returncode == 3
    assert "target too long for --max-length 8 (t.csv:2" in done.stderr and "no row is left" in done.stderr


def test_columns_of_a_table(tmp_path: Path, gpt2: Path) -> None:
    rows = [("Q one", "yes", "x", "ann"), ("Q two", "no", "y", "bob"), ("", "no", "y", "bob"), ("Q", " ", "y", "bob")]
    train, out = table(tmp_path / "t.csv", rows, ("question", "answer", "kind", "who")), tmp_path / "o.h5"
    done = made("csv", "--task", "generation", "--train", train, "--test", train, "--text", "question", "--target", "answer",
                "--label", "kind", "--client", "who", "--model", gpt2, "--output", out)  # fmt: skip
    assert "empty prompt (t.csv:4" in done.stderr and "empty target (t.csv:5" in done.stderr
    with h5py.File(out) as file:
        assert texts_of(file, "class_name") == ["x", "y"] and texts_of(file, "client_name") == ["ann", "bob"]
        assert file.attrs["metrics"] == "bleu,rouge_l" and file.attrs["text_columns"] == "question"


@pytest.mark.parametrize("option", ["client", "label"])
@pytest.mark.parametrize("slot", ["eattype", "food"])
def test_a_slot_that_no_row_has_is_refused(tmp_path: Path, gpt2: Path, option: str, slot: str) -> None:
    train, out = table(tmp_path / "t.csv", ROWS), tmp_path / "o.h5"
    done = prepare("e2e", "--train", train, "--test", train, "--model", gpt2, "--output", out, f"--{option}", slot)
    assert done.returncode == 3 and not out.exists()
    slots = "name, eatType, priceRange, customer rating, near, area, familyFriendly"
    assert f"no slot '{slot}' for --{option}; there are: {slots}" in done.stderr


TRIPLES = [("Aarhus_Airport", "cityServed", '"Aarhus, Denmark"'), ("Aarhus_Airport", "elevation", "25.0")]


def web_nlg_entry(
    number: int, category: str, triples: list[tuple[str, str, str]], texts: list[tuple[str, str]]
) -> dict:
    return {str(number): {
        "category": category, "size": str(len(triples)), "xml_id": f"Id{number}",
        "modifiedtripleset": [dict(zip(("subject", "property", "object"), triple)) for triple in triples],
        "lexicalisations": [{"comment": comment, "lex": text, "xml_id": f"Id{i}"} for i, (comment, text) in enumerate(texts)],
    }}  # fmt: skip


def test_web_nlg_has_a_row_for_each_good_text(tmp_path: Path, gpt2: Path) -> None:
    entries = [
        web_nlg_entry(
            1, "Airport", TRIPLES, [("good", "It serves Aarhus."), ("bad", "No."), ("good", "Aarhus has it.")]
        ),
        web_nlg_entry(2, "Food", [("Bacon", "country", "Spain")], [("good", "Bacon is from Spain.")]),
        web_nlg_entry(3, "Food", TRIPLES[:1], [("bad", "Bad.")]),
    ]
    train, out = write(tmp_path / "train.json", json.dumps({"entries": entries})), tmp_path / "o.h5"
    done = made("web_nlg", "--train", train, "--test", train, "--model", gpt2, "--output", out, "--client", "category")
    assert "rows refused: 2, no text (train.json:3, train.json:3)" in done.stderr
    with h5py.File(out) as file:
        prompt = 'Aarhus_Airport : cityServed : "Aarhus, Denmark" | Aarhus_Airport : elevation : 25.0'
        assert texts_of(file, "item_text")[:2] == [prompt, "Bacon : country : Spain"]
        assert file["item"][:].tolist() == [0, 0, 1, 2, 2, 3]
        assert json.loads(texts_of(file, "item_references")[0]) == ["It serves Aarhus.", "Aarhus has it."]
        assert texts_of(file, "class_name") == texts_of(file, "client_name") == ["Airport", "Food"]
    for content in ("{", "[]", '{"entries": [{}]}', '{"entries": [{"1": {}}]}'):
        write(train, content)
        done = prepare("web_nlg", "--train", train, "--model", gpt2, "--output", tmp_path / "x.h5")
        assert done.returncode == 3 and str(train) in done.stderr and "Traceback" not in done.stderr


def test_what_is_no_meaning_representation_is_refused(tmp_path: Path, gpt2: Path) -> None:
    bad = ["The Vaults", "name[The Vaults", "name[a] eatType[b]", "name[a], text", "[a]"]
    train = table(tmp_path / "t.csv", [*ROWS, *((mr, "x") for mr in bad)])
    done = made("e2e", "--train", train, "--test", train, "--model", gpt2, "--output", tmp_path / "o.h5")
    assert "rows refused: 10, not a meaning representation, slot[value], slot[value] (t.csv:6" in done.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [({"eos_token_id": None}, "names no eos_token_id"), ({"eos_token_id": 9999}, "eos_token_id 9999, which tokenizer.json"),
     ({"vocab_size": 100}, "beyond the model's vocabulary of 100")],
)  # fmt: skip
def test_models_that_cannot_end_a_text_are_input_errors(tmp_path: Path, config: dict, message: str) -> None:
    model = model_folder(tmp_path / "m", byte_level(TEXTS, ["<end>"]), **{"eos_token_id": 0, **config})
    train = table(tmp_path / "t.csv", ROWS)
    done = prepare("e2e", "--train", train, "--test", train, "--model", model, "--output", tmp_path / "o.h5")
    assert done.returncode == 3
    assert message in done.stderr and "Traceback" not in done.stderr
