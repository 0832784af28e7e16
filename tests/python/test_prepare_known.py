"""Data sets known by name: their own files, the hub's rows of the same, labels, values and token types."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from preparing import MINILM, bert_like, made, needs_minilm, prepare, roberta_like, rows_of, texts_of, write

import prepare_hub  # isort: skip
from prepare_known import KNOWN, read_known  # isort: skip
from prepare_layouts import body_of  # isort: skip
from prepare_rows import TEST, TRAIN, VALIDATION, InputError  # isort: skip

TEXTS = ["the cat sat on a mat", "dogs run far", "one two three four five six seven"]
NAMES = {
    "cola": ["unacceptable", "acceptable"],
    "sst2": ["negative", "positive"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qqp": ["not_duplicate", "duplicate"],
    "wnli": ["not_entailment", "entailment"],
}  # of classes that files have as 0 and 1; fmt: skip

# GLUE's files, as its download script leaves them: header, rows.
GLUE = {
    "cola": ("", ["gj04\t1\t\tthe cat sat", "gj04\t0\t*\tcat the"]),
    "sst2": ("sentence\tlabel", ["the cat sat \t1", "cat the \t0"]),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", ["1\t70\t71\tthe cat sat\ta cat sat", "0\t7\t8\tcat\tdog"]),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", ["1\t2\t3\tthe cat?\ta cat?\t1", "2\t3\t4\tcat\tdog\t0",
                                                                   "cut short"]),
    "mnli": ("index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
             "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
             ["0\t1\t1c\tfiction\t( a )\t( b )\tx\ty\tthe cat\ta cat\tentailment\tentailment",
              "1\t2\t2c\ttravel\t( a )\t( b )\tx\ty\tthe cat\ta dog\tcontradiction\tcontradiction",
              "2\t3\t3c\ttravel\t( a )\t( b )\tx\ty\tthe cat\ta mat\tneutral\t-",
              "3\t4\t4c\ttravel\t( a )\t( b )\tx\ty\tthe cat\ton\tneutral\tneutral"]),
    "qnli": ("index\tquestion\tsentence\tlabel", ["0\twhat sat?\tthe cat\tentailment", "1\twho?\ta dog\tnot_entailment"]),
    "rte": ("index\tsentence1\tsentence2\tlabel", ["0\tthe cat\ta cat\tentailment", "1\tcat\tdog\tnot_entailment"]),
    "wnli": ("index\tsentence1\tsentence2\tlabel", ["0\tthe cat\ta cat\t1", "1\tcat\tdog\t0"]),
}  # fmt: skip
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"


def stsb(path: Path, *scores: str) -> Path:
    lines = [f'{i}\tmain-news\tf\t2012\t{i}\tn\tn\tthe cat\ta "cat {i}\t{score}\n' for i, score in enumerate(scores)]
    return write(path, STSB + "".join(lines))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return bert_like(tmp_path / "bert", TEXTS)


@pytest.mark.parametrize("task", GLUE)
def test_glue_files_have_the_classes_of_the_hub_in_its_order(tmp_path: Path, bert: Path, task: str) -> None:
    header, lines = GLUE[task]
    train = write(tmp_path / "train.tsv", "".join(f"{line}\n" for line in ([header] if header else []) + lines))
    out = tmp_path / "o.h5"
    done = made(f"glue/{task}", "--train", train, "--test", train, "--model", bert, "--output", out)
    classes = NAMES.get(task, ["entailment", "not_entailment"])
    order = [1, 0] if task in NAMES else [0, 1]
    if task == "mnli":
        classes, order = ["entailment", "neutral", "contradiction"], [0, 2, 1]
        assert "label '-' is none of entailment, neutral, contradiction (train.tsv:4" in done.stderr
    if task == "qqp":
        assert "1 columns instead of 6 (train.tsv:4" in done.stderr
    with h5py.File(out) as file:
        assert texts_of(file, "class_name") == classes
        assert file["labels"][:].tolist() == order * 2
        assert file.attrs["metrics"] == KNOWN[f"glue/{task}"].metrics and file.attrs["name"] == f"glue/{task}"
        assert file.attrs["licence"] == KNOWN[f"glue/{task}"].licence
        pair = task not in ("cola", "sst2")
        assert ("token_types" in file) == pair
        if pair:  # [CLS] a [SEP] b [SEP] is 0 up to the first [SEP]
            for tokens, types in zip(rows_of(file, "tokens"), rows_of(file, "token_types")):
                first = tokens.tolist().index(3)
                assert types.tolist() == [0] * (first + 1) + [1] * (len(tokens) - first - 1)


def test_every_glue_task_is_known_and_has_a_test() -> None:
    assert {f"glue/{task}" for task in [*GLUE, "stsb", "mnli-mm"]} == {name for name in KNOWN if "/" in name}


def test_mnli_genres_can_be_clients(tmp_path: Path, bert: Path) -> None:
    header, lines = GLUE["mnli"]
    train, out = write(tmp_path / "t.tsv", "\n".join([header, *lines])), tmp_path / "o.h5"
    made("glue/mnli-mm", "--train", train, "--test", train, "--model", bert, "--output", out, "--client", "genre")
    with h5py.File(out) as file:
        assert texts_of(file, "client_name") == ["fiction", "travel"]


def test_files_without_labels_are_an_input_error(tmp_path: Path, bert: Path) -> None:
    train = write(tmp_path / "train.tsv", "sentence\tlabel\na\t1\nb\t0\n")
    test = write(tmp_path / "test.tsv", "index\tsentence\n0\ta\n")
    done = prepare("glue/sst2", "--train", train, "--test", test, "--model", bert, "--output", tmp_path / "o.h5")
    assert done.returncode == 3
    assert f"{test} has no column 'label'" in done.stderr and "without labels" in done.stderr


# Regression


def test_stsb_has_values_and_their_rounded_classes(tmp_path: Path, bert: Path) -> None:
    train, out = stsb(tmp_path / "t.tsv", "5.000", "0.4", "2.5", "", "3.499"), tmp_path / "o.h5"
    done = made("glue/stsb", "--train", train, "--test", train, "--model", bert, "--output", out)
    assert "rows refused: 2, missing value (t.tsv:5, t.tsv:5)" in done.stderr and "warning" not in done.stderr
    with h5py.File(out) as file:
        assert file.attrs["task"] == "regression" and file.attrs["metrics"] == "pearson,spearman"
        assert file["values"].dtype == np.float32
        assert file["values"][:].tolist() == np.array([5, 0.4, 2.5, 3.499] * 2, np.float32).tolist()
        assert texts_of(file, "class_name") == ["0", "3", "5"]
        assert file["labels"][:].tolist() == [2, 0, 1, 1] * 2
    assert "values: 0.4 to 5, mean 2.85" in made("--describe", out).stdout


@pytest.mark.parametrize("value", ["good", "nan", "1e400", "-inf", "1,5"])
def test_a_value_that_is_no_number_is_an_input_error(tmp_path: Path, bert: Path, value: str) -> None:
    train = stsb(tmp_path / "t.tsv", "1", "2", value)
    done = prepare("glue/stsb", "--train", train, "--test", train, "--model", bert, "--output", tmp_path / "o.h5")
    assert done.returncode == 3
    assert f"t.tsv:4: '{value}' in column 'score' is not a number" in done.stderr
    assert not (tmp_path / "o.h5").exists()


def test_regression_of_a_table(tmp_path: Path, bert: Path) -> None:
    rows = [
        {"a": "the cat", "b": "a cat", "y": 1},
        {"a": "dogs", "b": "cats", "y": -1.25},
        {"a": "far", "b": "on", "y": "7"},
    ]
    train, out = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows))), tmp_path / "o.h5"
    made("jsonl", "--task", "regression", "--train", train, "--test", train, "--text", "a", "--text2", "b", "--label", "y",
         "--model", bert, "--output", out)  # fmt: skip
    with h5py.File(out) as file:
        assert file["values"][:3].tolist() == [1, -1.25, 7]
        assert texts_of(file, "class_name") == ["-1", "1", "7"]
    one = write(tmp_path / "one.tsv", "text\tlabel\na\t1\nb\t1.2\n")
    made("tsv", "--task", "regression", "--train", one, "--test", one, "--model", bert, "--output", tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        assert texts_of(file, "class_name") == ["1"]


def test_the_share_of_a_regression_does_not_go_by_value(tmp_path: Path, bert: Path) -> None:
    train, out = (
        write(tmp_path / "t.tsv", "text\tlabel\n" + "".join(f"cat {i}\t{i}\n" for i in range(50))),
        tmp_path / "o.h5",
    )
    made("tsv", "--task", "regression", "--train", train, "--model", bert, "--output", out)
    with h5py.File(out) as file:
        assert file["split"][:].tolist().count(2) == 10


# Token types


@needs_minilm
def test_token_types_of_pairs_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pairs = [("the cat sat", "a cat?"), ("far " * 80, "near " * 80), ("naïve — 日本", "x")]
    train = write(
        tmp_path / "t.jsonl", "".join(json.dumps({"a": a, "b": b, "y": i % 2}) + "\n" for i, (a, b) in enumerate(pairs))
    )
    out = tmp_path / "o.h5"
    made("jsonl", "--train", train, "--test", train, "--text", "a", "--text2", "b", "--label", "y", "--model", MINILM,
         "--output", out)  # fmt: skip
    reference = transformers.AutoTokenizer.from_pretrained(str(MINILM))
    wanted = reference([a for a, _ in pairs], [b for _, b in pairs], truncation=True, max_length=128)
    with h5py.File(out) as file:
        assert file["token_types"].dtype == np.int8
        assert [row.tolist() for row in rows_of(file, "tokens")] == wanted["input_ids"] * 2
        assert [row.tolist() for row in rows_of(file, "token_types")] == wanted["token_type_ids"] * 2


def test_token_types_are_left_out_where_the_model_has_one_or_none(tmp_path: Path) -> None:
    header, lines = GLUE["rte"]
    train, out = write(tmp_path / "t.tsv", "\n".join([header, *lines])), tmp_path / "o.h5"
    folders = [roberta_like(tmp_path / "roberta", TEXTS), bert_like(tmp_path / "untyped", TEXTS, type_vocab_size=0)]
    for model in folders:
        made("glue/rte", "--train", train, "--test", train, "--model", model, "--output", out, "--overwrite")
        with h5py.File(out) as file:
            assert "token_types" not in file


# AG News and 20 Newsgroups


def test_ag_news_joins_title_and_description(tmp_path: Path, bert: Path) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
        [("3", "the cat", "sat, far"), ("1", "dogs", "run"), ("4", "one", "two")]
    )
    train, table = write(tmp_path / "train.csv", text.getvalue()), tmp_path / "train.tsv"
    write(table, "sentence\tlabel\nthe cat sat, far\tBusiness\ndogs run\tWorld\none two\tSci/Tech\n")
    out = tmp_path / "o.h5"
    made("ag_news", "--train", train, "--test", table, "--model", bert, "--output", out)
    with h5py.File(out) as file:
        assert texts_of(file, "class_name") == ["World", "Business", "Sci/Tech"]
        assert file["labels"][:].tolist() == [1, 0, 2] * 2
        tokens = [row.tolist() for row in rows_of(file, "tokens")]
        assert tokens[:3] == tokens[3:]
    done = prepare(
        "ag_news", "--train", write(tmp_path / "t.json", "{}"), "--model", bert, "--output", out, "--overwrite"
    )
    assert done.returncode == 3 and "t.json is no file of ag_news: it takes CSV" in done.stderr


def test_newsgroups_are_folders_of_postings(tmp_path: Path, bert: Path) -> None:
    message = "From: a@b\nSubject: cats\n\nA man writes:\n> dogs run\nthe cat sat\n\non a mat\n\n--\nsigned, me\n"
    assert body_of(message) == "the cat sat\n\non a mat\n"
    assert body_of("Subject: x\n\none\n--\ntwo\n\nthree") == "one\n--\ntwo"
    assert body_of("Subject: x\n\none two") == "one two"
    for split in ("train", "test"):
        for group, names in (("rec.cats", ("7", "12")), ("rec.dogs", ("3",))):
            (tmp_path / split / group).mkdir(parents=True)
            for name in names:
                write(tmp_path / split / group / name, message.replace("mat", f"mat {name} ").encode() + b"caf\xe9")
    write(tmp_path / "train" / "rec.dogs" / "empty", "Subject: none\n\n")
    out = tmp_path / "o.h5"
    done = made(
        "20newsgroups", "--train", tmp_path / "train", "--test", tmp_path / "test", "--model", bert, "--output", out
    )
    assert "empty text (train:4)" in done.stderr
    with h5py.File(out) as file:
        assert texts_of(file, "class_name") == ["rec.cats", "rec.dogs"]
        assert file["labels"][:].tolist() == [0, 0, 1] * 2
    done = prepare("20newsgroups", "--train", out, "--model", bert, "--output", tmp_path / "x.h5")
    assert done.returncode == 3 and f"no folder {out}" in done.stderr


# The hub


ANSWER = {"text": ["cat"], "answer_start": [4]}
HUB = {
    "glue/mrpc": {"sentence1": "the cat", "sentence2": "a cat", "label": 1, "idx": 0},
    "glue/stsb": {"sentence1": "the cat", "sentence2": "a cat", "label": 3.5, "idx": 0},
    "squad": {"id": "x1", "title": "Cats", "context": "the cat sat", "question": " what? ", "answers": ANSWER},
    "squad_v2": {"id": "x1", "title": "Cats", "context": "the cat", "question": "what?",
                 "answers": {"text": [], "answer_start": []}},
    "e2e": {"meaning_representation": "name[a], eatType[pub]", "human_reference": "a is a pub"},
    "web_nlg": {"category": "Food", "modified_triple_sets": {"mtriple_set": [["a | is | b"]]},
                "lex": {"comment": ["good"], "lid": ["1"], "text": ["a is b"], "lang": [""]}},
    "ag_news": {"text": "the cat sat", "label": 2},
    "20newsgroups": {"text": "the cat", "label": 1, "label_text": "rec.cats"},
}  # fmt: skip
LOCAL = {
    "glue/mrpc": ("t.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tthe cat\ta cat\n"),
    "glue/stsb": ("t.tsv", STSB + "0\tg\tf\t1\t0\tn\tn\tthe cat\ta cat\t3.5\n"),
    "squad": ("t.json", json.dumps({"data": [{"title": "Cats", "paragraphs": [{"context": "the cat sat", "qas": [
        {"id": "x1", "question": " what? ", "answers": [{"text": "cat", "answer_start": 4}]}]}]}]})),
    "squad_v2": ("t.json", json.dumps({"data": [{"title": "Cats", "paragraphs": [{"context": "the cat", "qas": [
        {"id": "x1", "question": "what?", "answers": [], "is_impossible": True}]}]}]})),
    "e2e": ("t.csv", 'mr,ref\n"name[a], eatType[pub]",a is a pub\n'),
    "web_nlg": ("t.json", json.dumps({"entries": [{"1": {
        "category": "Food", "modifiedtripleset": [{"subject": "a", "property": "is", "object": "b"}],
        "lexicalisations": [{"comment": "good", "lex": "a is b"}]}}]})),
    "ag_news": ("t.csv", "3,the cat,sat\n"),
}  # fmt: skip
CLASSES = {"glue/mrpc": ["not_equivalent", "equivalent"], "ag_news": ["World", "Sports", "Business", "Sci/Tech"]}


@pytest.mark.parametrize("name", HUB)
def test_hub_rows_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_list([HUB[name]])
    if name in CLASSES:
        part = part.cast_column("label", datasets.ClassLabel(names=CLASSES[name]))
    asked = []

    def load(path: str, options: dict[str, str]) -> dict:
        asked.append((path, options))
        return {"train": part, KNOWN[name].splits[TEST]: part}

    monkeypatch.setattr(prepare_hub, "load_hub", load)
    known = KNOWN[name]
    monkeypatch.delitem(known.splits, VALIDATION, raising=False)
    client = "title" if name == "squad" else None
    source = read_known(name, {}, client, None, with_test=True)
    assert asked == [(known.hub, known.hub_options)]
    assert not source.refused and {row.split for row in source.rows} == {TRAIN, TEST}
    assert source.licence == known.licence
    if name in LOCAL:
        file, content = LOCAL[name]
        path = write(tmp_path / file, content)
        local = read_known(name, {TRAIN: path, TEST: path}, client, None, with_test=True)
        without_place = [vars(row) | {"where": "", "line": 0} for row in source.rows]
        assert [vars(row) | {"where": "", "line": 0} for row in local.rows] == without_place


def test_lists_of_records_are_read_as_dictionaries_of_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    row = {**HUB["web_nlg"], "modified_triple_sets": [{"mtriple_set": ["a | is | b"]}],
           "lex": [{"comment": "good", "text": "a is b"}, {"comment": "bad", "text": "b"}]}  # fmt: skip
    part = datasets.Dataset.from_list([row])
    monkeypatch.setattr(prepare_hub, "load_hub", lambda *_: {"train": part, "dev": part, "test": part})
    rows = read_known("web_nlg", {}, None, None, with_test=True).rows
    assert [(row.split, row.text, row.target) for row in rows] == [
        (split, "a : is : b", "a is b") for split in range(3)
    ]


def test_a_hub_out_of_reach_names_the_files_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InputError("no network")

    monkeypatch.setattr(prepare_hub, "load_hub", fail)
    with pytest.raises(InputError, match="no network. squad can be read from files, too: --train FILE .*SQuAD's JSON"):
        read_known("squad", {}, None, None, with_test=True)


# The command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glue/sst", "--output", "x.h5"], "no GLUE task 'glue/sst'; there are glue/cola, glue/sst2"),
        (["squads", "--output", "x.h5"], "did you mean squad?"),
        (["sst2", "--train", "x", "--output", "x.h5"], "did you mean glue/sst2?"),
        (["20_newsgroups", "--output", "x.h5"], "did you mean 20newsgroups?"),
        (["e2e"], "no --output for e2e"),
        (["e2e", "--test", "t.csv", "--output", "x.h5"], "no --train for e2e: name the file"),
        (["20newsgroups", "--test", "t", "--output", "x.h5"], "name the folder"),
        (["squad", "--text", "a", "--output", "x.h5"], "--text means nothing for squad"),
        (["squad", "--label", "a", "--output", "x.h5"], "--label means nothing for squad"),
        (["squad", "--task", "generation", "--output", "x.h5"], "--task means nothing for squad"),
        (["e2e", "--stride", "3", "--output", "x.h5"], "--stride means nothing for e2e"),
        (
            ["tsv", "--train", "x", "--target", "a", "--output", "x.h5"],
            "--target means nothing for --task classification",
        ),
        (
            ["tsv", "--train", "x", "--task", "generation", "--text2", "a", "--output", "x.h5"],
            "--text2 means nothing for",
        ),
        (
            ["csv", "--train", "x", "--text", "mr", "--target", "ref", "--output", "x.h5"],
            "--target means nothing for --task classification; leave it out, or give --task generation, which takes it",
        ),
        (["e2e", "--target", "ref", "--output", "x.h5"], "--target means nothing for e2e; leave it out\n"),
        (["tsv", "--train", "x", "--task", "span", "--output", "x.h5"], "invalid choice: 'span'"),
        (["squad", "--stride", "0", "--output", "x.h5"], "--stride"),
    ],
)
def test_wrong_command_lines_exit_2(arguments: list[str], message: str) -> None:
    done = prepare(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_client_column_that_is_not_there_is_named(tmp_path: Path, bert: Path) -> None:
    path = write(tmp_path / "t.json", LOCAL["squad"][1])
    done = prepare(
        "squad", "--train", path, "--test", path, "--model", bert, "--output", tmp_path / "o.h5", "--client", "author"
    )
    assert done.returncode == 3
    assert "no column 'author' for --client; there are: id, title, context, question, answers" in done.stderr


def test_help_lists_every_known_data_set() -> None:
    page = made("--help").stdout
    for name, known in KNOWN.items():
        assert f"    {name} " in page and known.task in page
