"""SQuAD in jobs/prepare.py: windows against transformers' own call, spans by decoding, references as in the file."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from preparing import (
    MINILM, bert_like, deberta_like, made, needs_minilm, prepare, roberta_like, rows_of, texts_of, write,
)  # fmt: skip
from tokenizers import Tokenizer

NOTRE_DAME = (
    "The  café of Mrs. Müller stands in Zürich — since 1891 — beside the old bridge.\nHer grandson, 日本 trained, "
    "bakes 🥐 croissants there every morning; the town pays 3,500 francs a year for them.\u00a0Nobody knows why."
)
RIVER = " ".join(
    f"In the year {1700 + i} the river rose {i} metres and took bridge number {i} away." for i in range(60)
)
QUESTIONS = {
    NOTRE_DAME: [("Where does the café stand?", "Zürich"), ("Since when?", "1891"), ("What is baked?", "🥐 croissants"),
                 ("What does the town pay?", "3,500 francs a year"), ("Who?", "The  café of Mrs. Müller"),
                 ("Who knows?", "Nobody"), ("Trained where?", "日本")],
    RIVER: [("How high did it rise in 1730?", "30 metres"), ("And in the last year?", "59 metres"),
            ("What was taken in 1712?", "bridge number 12"), ("And at first?", "0 metres")],
    "It is red.": [("Which colour?", "red")],
}  # fmt: skip
MODELS = {"bert": bert_like, "roberta": roberta_like, "deberta": deberta_like}


def squad(path: Path, questions: dict[str, list[tuple[str, str]]], **change: object) -> Path:
    """A file as SQuAD 1.1 has it: each answer at its first place, with a second answer after it."""
    articles = []
    for number, (context, asked) in enumerate(questions.items()):
        qas = []
        for i, (question, answer) in enumerate(asked):
            found = [
                {"text": answer, "answer_start": context.index(answer)},
                {"text": "e", "answer_start": context.index("e")},
            ]
            qas.append({"id": f"{number}/{i}", "question": question, "answers": found, **change})
        articles.append({"title": f"Article {number}", "paragraphs": [{"context": context, "qas": qas}]})
    return write(path, json.dumps({"version": "1.1", "data": articles}, ensure_ascii=False))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    texts = [*QUESTIONS, *(question for asked in QUESTIONS.values() for question, _ in asked)]
    return MODELS[request.param](tmp_path / request.param, texts)


def test_spans_decode_to_the_answers(tmp_path: Path, model: Path) -> None:
    train, out = squad(tmp_path / "train-v1.1.json", QUESTIONS), tmp_path / "o.h5"
    made("squad", "--train", train, "--test", train, "--model", model, "--output", out, "--max-length", 96,
         "--stride", 40)  # fmt: skip
    with h5py.File(out) as file:
        assert (file.attrs["task"], file.attrs["metrics"]) == ("span", "exact_match,f1")
        assert file["span"].dtype == file["item"].dtype == file["token_characters"].dtype == np.int32
        item, span, characters = file["item"][:], file["span"][:], rows_of(file, "token_characters")
        contexts = texts_of(file, "item_text")
        references = [json.loads(text) for text in texts_of(file, "item_references")]
        assert texts_of(file, "class_name") == ["answered"] and not file["labels"][:].any()
        assert file["split"][:].tolist() == sorted(file["split"][:].tolist())
        assert texts_of(file, "item_id") == [f"{n}/{i}" for n, asked in enumerate(QUESTIONS.values())
                                             for i in range(len(asked))] * 2  # fmt: skip
    wanted = [[answer, "e"] for asked in QUESTIONS.values() for _, answer in asked] * 2
    assert references == wanted
    assert (np.diff(item) >= 0).all() and set(item) == set(range(len(wanted)))
    answered = set()
    for row, question in enumerate(item):
        first, last = span[row]
        if last:
            begin, end = characters[row][first][0], characters[row][last][1]
            assert contexts[question][begin:end] == references[question][0]
            answered.add(question)
    assert answered == set(item)
    assert max(np.bincount(item)) > 5 and min(np.bincount(item)) == 1


def test_windows_are_those_of_transformers(tmp_path: Path, model: Path) -> None:
    """With an overlap of what a window holds less the stride, which moves it by the stride as run_squad does."""
    transformers = pytest.importorskip("transformers")
    train, out, most, stride = squad(tmp_path / "train.json", QUESTIONS), tmp_path / "o.h5", 80, 30
    made("squad", "--train", train, "--test", train, "--model", model, "--output", out, "--max-length", most,
         "--stride", stride)  # fmt: skip
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"))
    ids, types, offsets = [], [], []
    for context, asked in QUESTIONS.items():
        for question, _ in asked:
            taken = reference.num_special_tokens_to_add(True) + len(reference.tokenize(question))
            found = reference(question, context, truncation="only_second", max_length=most, stride=most - taken - stride,
                              return_overflowing_tokens=True, return_offsets_mapping=True,
                              return_token_type_ids=True)  # fmt: skip
            for i, window in enumerate(found["input_ids"]):
                ids.append(window)
                types.append(found["token_type_ids"][i])
                of_context = [s == 1 for s in found.sequence_ids(i)]
                offsets.append([(context[a:b].strip() if c else None) for (a, b), c in
                                zip(found["offset_mapping"][i], of_context)])  # fmt: skip
    typed = model.name == "bert"
    with h5py.File(out) as file:
        count = len(file["labels"]) // 2
        assert [row.tolist() for row in rows_of(file, "tokens")[:count]] == ids
        assert ("token_types" in file) == typed
        if typed:
            assert file["token_types"].dtype == np.int8
            assert [row.tolist() for row in rows_of(file, "token_types")[:count]] == types
        contexts, item = texts_of(file, "item_text"), file["item"][:]
        for row, (wanted, found) in enumerate(zip(offsets, rows_of(file, "token_characters"))):
            text = contexts[item[row]]
            assert [None if a < 0 else text[a:b].strip() for a, b in found] == wanted
            assert all(text[a:b] == text[a:b].strip() or not text[a:b].strip() for a, b in found if a >= 0)


def test_windows_step_by_the_stride_and_the_last_ends_the_context(tmp_path: Path, model: Path) -> None:
    train, out = squad(tmp_path / "train.json", {RIVER: [("How high?", "30 metres")]}), tmp_path / "o.h5"
    made("squad", "--train", train, "--test", train, "--model", model, "--output", out, "--max-length", 100,
         "--stride", 33)  # fmt: skip
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    whole = tokenizer.encode(RIVER, add_special_tokens=False).ids
    question = tokenizer.encode("How high?", add_special_tokens=False).ids
    room = 100 - tokenizer.num_special_tokens_to_add(True) - len(question)
    with h5py.File(out) as file:
        windows = [tokens[characters[:, 0] >= 0].tolist() for tokens, characters in
                   zip(rows_of(file, "tokens"), rows_of(file, "token_characters"))]  # fmt: skip
    windows = windows[: len(windows) // 2]
    assert windows == [whole[33 * k : 33 * k + room] for k in range(len(windows))]
    assert 33 * (len(windows) - 1) + len(windows[-1]) == len(whole)
    assert 33 * (len(windows) - 2) + room < len(whole)


@needs_minilm
def test_a_default_window_of_minilm_is_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    train, out = squad(tmp_path / "t.json", {NOTRE_DAME: QUESTIONS[NOTRE_DAME]}), tmp_path / "o.h5"
    made("squad", "--train", train, "--test", train, "--model", MINILM, "--output", out)
    reference = transformers.AutoTokenizer.from_pretrained(str(MINILM))
    wanted = reference([q for q, _ in QUESTIONS[NOTRE_DAME]], [NOTRE_DAME] * len(QUESTIONS[NOTRE_DAME]))
    with h5py.File(out) as file:
        assert file.attrs["max_length"] == 384
        half = len(wanted["input_ids"])
        assert [row.tolist() for row in rows_of(file, "tokens")] == wanted["input_ids"] * 2
        assert [row.tolist() for row in rows_of(file, "token_types")[:half]] == wanted["token_type_ids"]


def test_questions_without_an_answer(tmp_path: Path) -> None:
    model = bert_like(tmp_path / "bert", [NOTRE_DAME])
    page = json.loads(squad(tmp_path / "t.json", {NOTRE_DAME: QUESTIONS[NOTRE_DAME][:3]}).read_text())
    page["data"][0]["paragraphs"][0]["qas"][1] |= {"answers": [], "is_impossible": True, "plausible_answers": []}
    train, out = write(tmp_path / "train-v2.0.json", json.dumps(page)), tmp_path / "o.h5"
    made("squad_v2", "--train", train, "--test", train, "--model", model, "--output", out, "--client", "title")
    with h5py.File(out) as file:
        assert texts_of(file, "class_name") == ["answered", "unanswerable"]
        assert file["labels"][:].tolist() == [0, 1, 0] * 2
        assert file["span"][1].tolist() == [0, 0]
        assert texts_of(file, "item_references")[1] == "[]"
        assert texts_of(file, "client_name") == ["Article 0"]
    page = made("--describe", out).stdout
    assert "windows: 6 of 6 questions; 4 hold the answer" in page
    assert "  task: span\n" in page and "\n    answer, tokens " in page and ": zurich\n" in page
    assert "references: 2" in page and "token types: 2" in page


def test_an_answer_inside_a_token_is_covered_and_counted(tmp_path: Path) -> None:
    model = bert_like(tmp_path / "bert", ["about 1990s music"] * 9)
    train, out = squad(tmp_path / "t.json", {"about 1990s music, he said": [("When?", "1990")]}), tmp_path / "o.h5"
    done = made("squad", "--train", train, "--test", train, "--model", model, "--output", out)
    assert "answers that end within a token, whose spans are a little longer: 2" in done.stdout
    with h5py.File(out) as file:
        (first, last), characters = file["span"][0], rows_of(file, "token_characters")[0]
        assert "about 1990s music, he said"[characters[first][0] : characters[last][1]] == "1990s"


def test_a_long_question_is_cut_to_64_tokens(tmp_path: Path) -> None:
    model = roberta_like(tmp_path / "roberta", [NOTRE_DAME])
    train, out = squad(tmp_path / "t.json", {NOTRE_DAME: [("why " * 200, "Zürich")]}), tmp_path / "o.h5"
    made("squad", "--train", train, "--test", train, "--model", model, "--output", out, "--max-length", 200)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    with h5py.File(out) as file:
        before = np.flatnonzero(rows_of(file, "token_characters")[0][:, 0] >= 0)[0]
        question = rows_of(file, "tokens")[0][1 : before - 2].tolist()
        assert question == tokenizer.encode("why " * 200, add_special_tokens=False).ids[:64]
        assert np.diff(file["offsets"][:]).max() <= 200


def test_without_a_test_file_a_context_is_in_one_split(tmp_path: Path) -> None:
    model = bert_like(tmp_path / "bert", [NOTRE_DAME])
    asked = {
        f"Person {i} is here, and so is {i + 1}.": [("Who?", f"Person {i}"), ("Where?", "here")] for i in range(20)
    }
    train, out = squad(tmp_path / "t.json", asked), tmp_path / "o.h5"
    made("squad", "--train", train, "--model", model, "--output", out)
    with h5py.File(out) as file:
        texts, split = np.asarray(texts_of(file, "item_text")), file["split"][:]
        assert (split == 2).sum() == 8
        assert not set(texts[file["item"][:][split == 2]]) & set(texts[file["item"][:][split == 0]])


def test_answers_that_are_not_where_they_are_said_to_be_are_refused(tmp_path: Path) -> None:
    model = bert_like(tmp_path / "bert", [NOTRE_DAME])
    page = json.loads(squad(tmp_path / "t.json", {NOTRE_DAME: QUESTIONS[NOTRE_DAME]}).read_text())
    questions = page["data"][0]["paragraphs"][0]["qas"]
    questions[1]["answers"][0]["answer_start"] += 1
    questions[2]["answers"][0]["text"] = " "
    questions[3]["question"] = " "
    train, out = write(tmp_path / "t.json", json.dumps(page)), tmp_path / "o.h5"
    done = made("squad", "--train", train, "--test", train, "--model", model, "--output", out)
    for reason in ("the answer is not in the context at its place (t.json:2", "an answer without text or place (t.json:3",
                   "empty question (t.json:4"):  # fmt: skip
        assert f"rows refused: 2, {reason}" in done.stderr


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"data": [{}]}', '{"data": [{"paragraphs": [{"qas": [{}]}]}]}', '{"data": 5}']
)
def test_what_is_no_squad_file_is_an_input_error(tmp_path: Path, content: str) -> None:
    model = bert_like(tmp_path / "bert", [NOTRE_DAME])
    train = write(tmp_path / "t.json", content)
    done = prepare("squad", "--train", train, "--model", model, "--output", tmp_path / "o.h5")
    assert done.returncode == 3
    assert str(train) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "o.h5").exists()
