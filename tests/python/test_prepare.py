"""jobs/prepare.py against independent sources: transformers' tokenizer, and counts made here in another way."""
from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from preparing import MINILM, ROOT, examples, made, needs_minilm, prepare, write
from tokenizers import Tokenizer, models, pre_tokenizers

WORDNET = Path("/usr/share/wordnet/data.noun")
needs_wordnet = pytest.mark.skipif(not WORDNET.is_file(), reason="the package wordnet-base is not installed")
SENTENCES = [
    "A plain sentence.",
    'Quotes "stay", tabs do not; naïve café — 日本 🙂',
    "it 's a charming and often affecting journey . ",
    "antidisestablishmentarianism " * 60,
    "UPPER lower\u00a0space x\u0301",
]

from prepare_rows import stratified_test_rows  # noqa: E402
from prepare_wordnet import definition  # noqa: E402


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A model folder whose tokenizer knows the words a to e; the file asks for padding and truncation to 3."""
    folder = tmp_path / "words"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["?", *"abcde"])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "bert", "vocab_size": 6, "max_position_embeddings": 16}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# Tokens


@needs_minilm
def test_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    table = "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(SENTENCES))
    train = write(tmp_path / "train.tsv", "text\tlabel\n" + table)
    out = tmp_path / "out.h5"
    made("tsv", "--train", train, "--test", train, "--model", MINILM, "--output", out, "--max-length", 40)
    reference = transformers.AutoTokenizer.from_pretrained(str(MINILM))
    wanted = reference(SENTENCES, truncation=True, max_length=40)["input_ids"]
    with h5py.File(out) as file:
        assert examples(file) == wanted + wanted
        assert file.attrs["vocabulary_size"] == 30522
        assert file.attrs["max_length"] == 40
    assert max(map(len, wanted)) == 40


@needs_minilm
def test_pairs_are_joined_and_cut_as_transformers_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    seconds = list(reversed(SENTENCES))
    rows = [{"a": a, "b": b, "y": i % 2} for i, (a, b) in enumerate(zip(SENTENCES, seconds))]
    train = write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    out, columns = tmp_path / "out.h5", ["--text", "a", "--text2", "b", "--label", "y"]
    made("jsonl", "--train", train, "--test", train, *columns, "--model", MINILM, "--output", out)
    reference = transformers.AutoTokenizer.from_pretrained(str(MINILM))
    wanted = reference(SENTENCES, seconds, truncation=True, max_length=128)["input_ids"]
    with h5py.File(out) as file:
        assert examples(file)[: len(wanted)] == wanted
        assert file.attrs["text_columns"] == "a,b"


def test_settings_inside_tokenizer_json_are_not_used(tmp_path: Path, words: Path) -> None:
    train = write(tmp_path / "t.tsv", "text\tlabel\na b c d e\tx\nb\ty\n")
    out = tmp_path / "out.h5"
    made("tsv", "--train", train, "--test", train, "--model", words, "--output", out)
    with h5py.File(out) as file:
        assert examples(file) == [[1, 2, 3, 4, 5], [2]] * 2


# Layout


def test_the_file_has_the_documented_layout(tmp_path: Path, words: Path) -> None:
    train = write(tmp_path / "t.csv", 'label,text,who\n10,"a, ""b""\nc",z\n9,d,y\n10,e,z\n')
    test = write(tmp_path / "v.csv", "who,text,label\ny,a,9\n")
    out = tmp_path / "new" / "out.h5"
    files = ["--train", train, "--validation", test, "--test", test, "--client", "who"]
    made("csv", *files, "--model", words, "--output", out, "--licence", "CC0")
    with h5py.File(out) as file:
        assert {n: (d.dtype, d.shape) for n, d in file.items() if d.dtype.kind == "i"} == {
            "tokens": (np.int32, (7,)),
            "offsets": (np.int64, (6,)),
            "labels": (np.int32, (5,)),
            "split": (np.int8, (5,)),
            "client": (np.int32, (5,)),
        }
        assert examples(file)[0] == [0, 0, 3]  # 'a,' and '"b"' are unknown words, the line end is a space
        assert file["class_name"].asstr()[:].tolist() == ["9", "10"]  # by number, not by letter
        assert file["labels"][:].tolist() == [1, 0, 1, 0, 0]
        assert file["split"][:].tolist() == [0, 0, 0, 1, 2]
        assert file["client_name"].asstr()[:].tolist() == ["y", "z"]
        assert file["client"][:].tolist() == [1, 0, 1, 0, 0]
        attributes = dict(file.attrs)
    both = hashlib.sha256(train.read_bytes() + test.read_bytes() + test.read_bytes()).hexdigest()
    tokenizer = hashlib.sha256((words / "tokenizer.json").read_bytes()).hexdigest()
    assert attributes.pop("created_utc").endswith("Z")
    assert attributes.pop("command").startswith("jobs/prepare.py csv --train")
    assert attributes == {
        "format": "pf2lora-dataset", "format_version": 2, "name": "out", "task": "classification",
        "metrics": "accuracy", "source": "t.csv, v.csv, v.csv",
        "licence": "CC0", "text_columns": "text", "tokenizer": str(words), "tokenizer_sha256": tokenizer,
        "vocabulary_size": 6, "max_length": 16, "input_sha256": both,
    }  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["out.h5"]


def test_quotes_in_tsv_are_text(tmp_path: Path, words: Path) -> None:
    train = write(tmp_path / "t.tsv", b'\xef\xbb\xbftext\tlabel\r\n"a b\tx\r\n\r\nb "c\ty\r\n')
    out = tmp_path / "out.h5"
    made("tsv", "--train", train, "--test", train, "--model", words, "--output", out)
    with h5py.File(out) as file:
        assert examples(file)[:2] == [[0, 2], [2, 0]]
        assert file["class_name"].asstr()[:].tolist() == ["x", "y"]


# Splits


def test_test_share_is_stratified_and_does_not_depend_on_the_order() -> None:
    labels = ["x"] * 50 + ["y"] * 10 + ["z"] * 2 + ["w"]
    texts = [f"text {i}" for i in range(len(labels))]
    chosen = stratified_test_rows(labels, texts, 0.2, seed=3)
    assert Counter(label for label, c in zip(labels, chosen) if c) == {"x": 10, "y": 2, "z": 1}
    order = np.random.default_rng(0).permutation(len(labels))
    again = stratified_test_rows([labels[i] for i in order], [texts[i] for i in order], 0.2, seed=3)
    assert [chosen[i] for i in order] == again
    assert chosen != stratified_test_rows(labels, texts, 0.2, seed=4)


def test_two_runs_write_the_same_data(tmp_path: Path, words: Path) -> None:
    rng = np.random.default_rng(1)
    rows = "".join(f"{' '.join(rng.choice(list('abcde'), 4))}\t{i % 3}\n" for i in range(100))
    train = write(tmp_path / "t.tsv", "text\tlabel\n" + rows)
    splits = []
    for name in ("one.h5", "two.h5"):
        made("tsv", "--train", train, "--model", words, "--output", tmp_path / name, "--test-share", 0.3)
        with h5py.File(tmp_path / name) as file:
            splits.append(file["split"][:].tolist())
    assert splits[0] == splits[1]
    assert Counter(splits[0]) == {0: 70, 2: 30}


# WordNet


@needs_wordnet
@needs_minilm
def test_wordnet_counts_and_texts(tmp_path: Path) -> None:
    """Counts by a regular expression over the whole file; texts by cutting at the first quotation mark."""
    out = tmp_path / "wordnet.h5"
    done = made("wordnet", "--model", MINILM, "--output", out)
    noun = re.findall(r"^\d{8} (\d\d) n .*?\| (.*?) *$", WORDNET.read_text("ascii"), re.MULTILINE)
    assert len(noun) == 82115
    by_file = Counter(number for number, _ in noun)
    kept = {number for number, count in by_file.items() if count >= 100}
    assert (len(by_file), len(kept)) == (26, 24)
    assert "82115 noun definitions" in done.stdout
    assert "noun.Tops dropped: 51" in done.stdout and "noun.motive dropped: 42" in done.stdout
    with h5py.File(out) as file:
        labels, split = file["labels"][:], file["split"][:]
        names = file["class_name"].asstr()[:].tolist()
        counts = np.bincount(labels).tolist()
        found = examples(file)
    assert sorted(counts) == sorted(by_file[number] for number in kept)
    # Spot checks by lexnames(5WN): 05 animal, 13 food, 28 time.
    for number, name in (("05", "noun.animal"), ("13", "noun.food"), ("28", "noun.time")):
        assert counts[names.index(name)] == by_file[number]
    for label in range(len(names)):
        of_class = split[labels == label]
        assert abs((of_class == 2).sum() - 0.2 * len(of_class)) <= 0.5
    assert set(split.tolist()) == {0, 2}
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    simple = [g for n, g in noun if n in kept and ";" not in g and "(" not in g]
    plain = [re.sub(r"[\s;:,]+$", "", gloss.split('"')[0]) for gloss in simple]
    wanted = Counter(tuple(e.ids) for e in tokenizer.encode_batch(plain))
    have = Counter(map(tuple, found))
    # The two ways differ only where a quotation is in the middle of the definition.
    assert len(wanted) > 30000
    assert sum((wanted - have).values()) <= 20


@pytest.mark.parametrize(
    ("gloss", "text"),
    [
        (" an action  \n", "an action"),
        (' a thing; "use it"; "use it; again"  ', "a thing"),
        (' a thing: "use it"', "a thing"),
        (' one; "an example"; two', "one; two"),
        (' a thing; "all the world\'s a stage"- Shakespeare; "no"--Bible', "a thing"),
        (' the act (e.g., "he said")', "the act"),
        (' an office"', "an office"),
        (' "only a use"', ""),
        (' a thing (or two); usually red', "a thing (or two); usually red"),
    ],
)
def test_definition_is_the_gloss_without_examples(gloss: str, text: str) -> None:
    assert definition(gloss) == text


@needs_minilm
def test_missing_wordnet_is_an_input_error(tmp_path: Path) -> None:
    done = prepare("wordnet", "--model", MINILM, "--wordnet-dir", tmp_path, "--output", tmp_path / "w.h5")
    assert done.returncode == 3
    assert "wordnet-base" in done.stderr
    assert list(tmp_path.iterdir()) == []


# Rows that cannot be used


BAD_TSV = b"text\tlabel\na\tx\n  \tx\nb\nc\ty\nd\xff\ty\ne\t \nb\tx\ty\n"


def test_bad_rows_are_counted_with_reason_and_line(tmp_path: Path, words: Path) -> None:
    train = write(tmp_path / "t.tsv", BAD_TSV)
    out = tmp_path / "out.h5"
    done = made("tsv", "--train", train, "--test", train, "--model", words, "--output", out)
    for reason in ("empty text (t.tsv:3, t.tsv:3)", "1 columns instead of 2 (t.tsv:4, t.tsv:4)",
                   "not UTF-8 (byte 0xff) (t.tsv:6, t.tsv:6)", "missing label (t.tsv:7, t.tsv:7)",
                   "3 columns instead of 2 (t.tsv:8, t.tsv:8)"):  # fmt: skip
        assert f"rows refused: 2, {reason}" in done.stderr
    with h5py.File(out) as file:
        assert examples(file) == [[1], [3], [1], [3]]


def test_bad_rows_of_csv_and_jsonl(tmp_path: Path, words: Path) -> None:
    table = b'text,label\n"a\nb",x\n"c"d,x\n\xe9,x\nd,y\n"never closed,y\n'
    out = tmp_path / "out.h5"
    done = made("csv", "--train", write(tmp_path / "t.csv", table), "--model", words, "--output", out,
                "--test", write(tmp_path / "v.csv", "text,label\na,x\n"))  # fmt: skip
    assert "not UTF-8 (t.csv:5)" in done.stderr
    assert re.search(r"malformed CSV .*t\.csv:4\)", done.stderr)
    assert re.search(r"malformed CSV .*t\.csv:7\)", done.stderr)
    with h5py.File(out) as file:
        assert examples(file) == [[1, 2], [4], [1]]
    lines = [
        '{"text": "a", "label": 1}',
        '{"text": 5, "label": 1}',
        "[]",
        "{",
        '{"text": "a"}',
        '{"text": "a", "label": true}',
        '{"text": "a", "label": null}',
        '{"text": "\\ud800", "label": 1}',
        '{"text": "b", "label": "2"}',
    ]
    train = write(tmp_path / "t.jsonl", "\n".join(lines))
    done = made("jsonl", "--train", train, "--test", train, "--model", words, "--output", out, "--overwrite")
    reasons = ("text is not a string", "not a JSON object", "not JSON", "no key 'label'",
               "label is neither a string nor an integer", "missing label", "text is not valid Unicode")  # fmt: skip
    for line, reason in enumerate(reasons, 2):
        assert f"{reason} (t.jsonl:{line}," in done.stderr
    with h5py.File(out) as file:
        assert file["class_name"].asstr()[:].tolist() == ["1", "2"]


def test_text_without_a_token_is_refused(tmp_path: Path, words: Path) -> None:
    # U+200B is no white space to Python, but the tokenizer may still find nothing: here a normalizer drops it.
    path = words / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    path.write_text(json.dumps(tokenizer))
    train = write(tmp_path / "t.tsv", "text\tlabel\na\tx\n\u200b\tx\nb\ty\n")
    done = made("tsv", "--train", train, "--test", train, "--model", words, "--output", tmp_path / "o.h5")
    assert "text without a token (t.tsv:3" in done.stderr


def test_strict_makes_refused_rows_an_error(tmp_path: Path, words: Path) -> None:
    train, out = write(tmp_path / "t.tsv", BAD_TSV), tmp_path / "out.h5"
    done = prepare("tsv", "--train", train, "--test", train, "--model", words, "--output", out, "--strict")
    assert done.returncode == 3
    assert "--strict" in done.stderr
    assert not out.exists()


def test_labels_of_the_test_file_alone_are_warned_of(tmp_path: Path, words: Path) -> None:
    train = write(tmp_path / "t.tsv", "text\tlabel\na\tx\nb\ty\n")
    test = write(tmp_path / "v.tsv", "text\tlabel\nb\tz\na\tz\na\tx\n")
    done = made("tsv", "--train", train, "--test", test, "--model", words, "--output", tmp_path / "o.h5")
    wanted = "labels without a training example: 1 (z); no model can learn them, and of the other rows 2 have them"
    assert f"prepare.py: warning: {wanted}\n" in done.stderr
    assert "test texts that are also training texts: 3" in done.stdout


def test_doubtful_labels_are_counted_with_an_example(tmp_path: Path, words: Path) -> None:
    rows = [("a", 1), ("b", 2), ("c", 2), ("a", 2), ("a", 1), ("d", 3), ("b", 1), ("", 4), ("e", 5)]
    train = write(tmp_path / "t.tsv", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    done = made("tsv", "--train", train, "--model", words, "--output", tmp_path / "one.h5")
    assert "warning: classes with a single usable row: 2 ('3' at t.tsv:7, '5' at t.tsv:10)" in done.stderr
    wanted = "warning: texts that carry different labels: 2, in 5 rows; such as t.tsv:2 '1' and t.tsv:5 '2'"
    assert wanted in done.stderr
    done = made("tsv", "--train", train, "--test", train, "--model", words, "--output", tmp_path / "two.h5")
    assert "single usable row" not in done.stderr  # every class has a row in each file
    assert "texts that carry different labels: 2, in 10 rows" in done.stderr


def test_a_number_and_its_text_are_one_label(tmp_path: Path, words: Path) -> None:
    rows = [("a", 1), ("a", "1"), ("b", 2), ("c", 2)]
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    train = write(tmp_path / "t.jsonl", lines)
    done = made("jsonl", "--train", train, "--model", words, "--output", tmp_path / "o.h5")
    assert "warning" not in done.stderr


def test_the_second_text_of_a_pair_counts_for_contradictions(tmp_path: Path, words: Path) -> None:
    train = write(tmp_path / "t.tsv", "a\tb\tlabel\na\tb\tx\na\tc\ty\nd\te\tx\nd\te\ty\n")
    done = made("tsv", "--train", train, "--text", "a", "--text2", "b", "--model", words, "--output", tmp_path / "o.h5")
    assert "texts that carry different labels: 1, in 2 rows; such as t.tsv:4 'x' and t.tsv:5 'y'" in done.stderr


def test_many_names_are_cut(tmp_path: Path, words: Path) -> None:
    rows = "".join(f"{text}\t{i}\n" for i, text in enumerate(["a", "b", "c", "d", "e", "a b", "a c"]))
    done = made("tsv", "--train", write(tmp_path / "t.tsv", "text\tlabel\n" + rows), "--model", words,
                "--test", write(tmp_path / "v.tsv", "text\tlabel\na\t0\n"), "--output", tmp_path / "o.h5")  # fmt: skip
    assert "single usable row: 6 ('1' at t.tsv:3, " in done.stderr and "'5' at t.tsv:7, ...)" in done.stderr


# Errors


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("text\tlabel\n", "no row is left for the train split"),
        ("", "no row is left for the train split"),
        ("text\tlabel\n\tx\n \ty\n", "no row is left for the train split"),
        ("text\tlabel\na\tx\nb\tx\n", "every row has the label 'x'"),
        ("sentence\tlabel\na\tx\n", "no column 'text'; its header names: sentence, label"),
        ("text\ttext\tlabel\na\tb\tx\n", "two columns 'text'"),
    ],
)
def test_input_without_use_is_an_error(tmp_path: Path, words: Path, table: str, message: str) -> None:
    train, out = write(tmp_path / "t.tsv", table), tmp_path / "out.h5"
    done = prepare("tsv", "--train", train, "--model", words, "--output", out)
    assert done.returncode == 3
    assert message in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no DATASET"),
        (["tsv", "--output", "x.h5"], "no --train"),
        (["tsv", "--train", "x"], "no --output"),
        (["wordnet", "--text", "a"], "--text means nothing for wordnet"),
        (["tsv", "--train", "x", "--test", "y", "--test-share", "0.5", "--output", "x.h5"], "exclude each other"),
        (["tsv", "--train", "x", "--test-share", "1.5", "--output", "x.h5"], "not between 0 and 1"),
        (["wordnet", "--max-length", "many"], "--max-length"),
        (["wordnet", "--no-such-option"], "--no-such-option"),
        (["wordnet", "--output", "."], "is a directory"),
        (["tvs", "--train", "x", "--output", "x.h5"], "did you mean tsv?"),
        (["wordnett"], "did you mean wordnet?"),
        (["CSV", "--train", "x"], "did you mean csv?"),
        (["json:all", "--output", "x.h5"], "did you mean jsonl?"),
        ([__file__, "--output", "x.h5"], f"is a file: name its kind first, such as tsv --train {__file__}"),
    ],
)
def test_wrong_command_lines_exit_2(arguments: list[str], message: str) -> None:
    done = prepare(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_max_length_is_bounded_by_the_models_positions(tmp_path: Path, words: Path) -> None:
    train = write(tmp_path / "t.tsv", "text\tlabel\na\tx\nb\ty\n")
    common = ["tsv", "--train", train, "--test", train, "--model", words, "--output", tmp_path / "o.h5"]
    assert prepare(*common, "--max-length", 17).returncode == 2
    made(*common, "--max-length", 16)
    (tmp_path / "o.h5").unlink()
    config = {"model_type": "roberta", "vocab_size": 6, "max_position_embeddings": 16, "pad_token_id": 1}
    (words / "config.json").write_text(json.dumps(config))
    done = prepare(*common, "--max-length", 15)  # RoBERTa's first real token has position 2
    assert done.returncode == 2
    assert "1 to 14 tokens" in done.stderr


def test_tokens_beyond_the_models_vocabulary_are_an_error(tmp_path: Path, words: Path) -> None:
    (words / "config.json").write_text(json.dumps({"vocab_size": 5, "max_position_embeddings": 16}))
    train = write(tmp_path / "t.tsv", "text\tlabel\na\tx\ne\ty\n")
    done = prepare("tsv", "--train", train, "--model", words, "--output", tmp_path / "o.h5")
    assert done.returncode == 3
    assert "token 5" in done.stderr and "vocabulary of 5" in done.stderr


def test_an_earlier_file_is_replaced_only_with_overwrite(tmp_path: Path, words: Path) -> None:
    out = write(tmp_path / "o.h5", "earlier")
    train = write(tmp_path / "t.tsv", "text\tlabel\na\tx\nb\ty\nc\tx\n")
    common = ["tsv", "--train", train, "--test", train, "--model", words, "--output", out]
    done = prepare(*common)
    assert done.returncode == 2
    assert f"{out} exists" in done.stderr and "--overwrite" in done.stderr
    assert out.read_text() == "earlier"
    made(*common, "--overwrite")
    with h5py.File(out) as file:
        assert examples(file) == [[1], [2], [3]] * 2


@pytest.mark.skipif(not (ROOT / "data" / "wordnet.h5").is_file(), reason="data/wordnet.h5 is not prepared")
def test_the_default_output_is_not_replaced_either() -> None:
    path = ROOT / "data" / "wordnet.h5"
    before = path.stat()
    done = prepare("wordnet")
    assert done.returncode == 2
    assert f"{path} exists" in done.stderr
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_earlier_file_survives_a_failure(tmp_path: Path, words: Path) -> None:
    out = write(tmp_path / "o.h5", "earlier")
    train = write(tmp_path / "t.tsv", "text\tlabel\n")
    done = prepare("tsv", "--train", train, "--model", words, "--output", out, "--overwrite")
    assert done.returncode == 3
    assert out.read_text() == "earlier"


@pytest.mark.parametrize("name", ["no-such-data/of-this-name", "owner/tsv", "glue:sst2", "snli"])
def test_hub_data_without_a_hub_is_an_input_error(tmp_path: Path, words: Path, name: str) -> None:
    done = prepare(name, "--model", words, "--output", tmp_path / "o.h5")
    assert done.returncode == 3
    assert name in done.stderr and "Hugging Face hub" in done.stderr
    assert "Traceback" not in done.stderr


def test_hub_model_without_a_hub_is_an_input_error(tmp_path: Path) -> None:
    train = write(tmp_path / "t.tsv", "text\tlabel\na\tx\nb\ty\n")
    done = prepare("tsv", "--train", train, "--model", "nobody/no-model", "--output", tmp_path / "o.h5")
    assert done.returncode == 3
    assert "no folder 'nobody/no-model'" in done.stderr
    assert "Traceback" not in done.stderr


def test_hub_rows_are_read_as_the_library_gives_them(tmp_path: Path, words: Path) -> None:
    """A data set in a local folder, loaded by the same library call as one of the hub."""
    pytest.importorskip("datasets")
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in {"train": [("a", 0), ("b", 1), ("", 1)], "validation": [("c", 1)]}.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("sentence", "kind"), *rows])
    out, columns = tmp_path / "o.h5", ["--text", "sentence", "--label", "kind"]
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "jobs" / "prepare.py"), str(folder), *columns]
    command += ["--test", "validation", "--model", str(words), "--output", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "empty text (train:3)" in done.stderr
    with h5py.File(out) as file:
        assert examples(file) == [[1], [2], [3]]
        assert file["split"][:].tolist() == [0, 0, 2]


# Describing


def test_describe_tells_what_the_file_holds(tmp_path: Path, words: Path) -> None:
    rows = "a b\tcat\tann\nc\tdog\tbob\na a a a\tcat\tann\n"
    train = write(tmp_path / "t.tsv", "text\tlabel\twho\n" + rows)
    out = tmp_path / "out.h5"
    made("tsv", "--train", train, "--test", train, "--client", "who", "--model", words, "--output", out)
    page = made("--describe", out).stdout
    assert "6 examples, 2 classes" in page
    assert re.search(r"cat +2 +0 +2\n", page) and re.search(r"all +3 +0 +3\n", page)
    assert "clients: 2 named; examples of one: 2 to 4" in page
    assert "mean 2.3" in page and "50%:2 " in page and "longest:4" in page
    assert "train, cat: a b\n" in page
    (words / "tokenizer.json").write_text("{}")
    page = made("--describe", out).stdout
    assert "train, cat: 1 2\n" in page  # another tokenizer than that of the file is not used


@pytest.mark.parametrize("content", [None, b"text", "empty"])
def test_describe_refuses_what_is_no_dataset(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "x.h5"
    if content == "empty":
        h5py.File(path, "w").close()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    done = prepare("--describe", path)
    assert done.returncode == 3
    assert str(path) in done.stderr and "Traceback" not in done.stderr
