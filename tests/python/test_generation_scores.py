"""Scores of generated texts, against sums by hand and against what the E2E challenge's own script says of a case."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

from analysis import generation_scorers, generation_scores, mteval  # noqa: E402

# (client, generated text, references), and what measure_scores.py of the E2E challenge (its default, with Perl's
# mteval-v13a) says of all five, of client 0's and of client 2's.
CASE = [
    (0, "The Blue Ox is a cheap pub near the river.",
     ["The Blue Ox is a cheap pub near the river.", "Near the river there is a cheap pub called The Blue Ox."]),
    (0, "Alba serves pizza for £20-25, and it's family-friendly.",
     ["Alba is family-friendly and serves pizza for £20-25.",
      "Alba, a family-friendly place, serves pizza from 20 to 25 pounds.", "Families can eat pizza at Alba (£20-25)."]),
    (2, "Cotto has a rating of 3.5 out of 5.",
     ["Cotto is rated 3.5 out of 5.", "With a rating of 3.5, Cotto is average."]),
    (2, "the Mill is a coffee shop", ['The Mill is a coffee shop in the city centre & serves "French" food.']),
    (2, "Zizzi is a restaurant.", ["Zizzi is a pub by the riverside.", "Zizzi is a riverside pub with 1,000 seats."]),
]
OFFICIAL = {"BLEU": (0.5235, 0.7416, 0.3525), "NIST": (4.4259, 5.2198, 2.3532), "METEOR": (0.4039, 0.5502, 0.2820),
            "ROUGE-L": (0.6713, 0.8188, 0.5730), "CIDEr": (3.6191, 5.0680, 2.6818)}
HALF_A_DIGIT = 0.5e-4


def write(path, examples=CASE):
    lines = [json.dumps({"hypothesis": text, "references": references, "client": client})
             for client, text, references in examples]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def lacks(*names):
    """Makes packages look as if they were not installed."""
    found = importlib.util.find_spec
    return lambda name, *rest: None if name in names else found(name, *rest)


@pytest.mark.parametrize("name", OFFICIAL)
def test_scores_are_those_of_the_challenges_script(tmp_path, name):
    if why := generation_scorers.missing(name):
        pytest.skip(why)
    scores = generation_scores.score(generation_scores.read_jsonl(write(tmp_path / "case.jsonl")), [name])
    found = (scores.overall[name], scores.clients[0][name], scores.clients[2][name])
    assert found == pytest.approx(OFFICIAL[name], abs=HALF_A_DIGIT)
    assert scores.mean_over_clients()[name] == pytest.approx((found[1] + found[2]) / 2)
    assert scores.examples == {None: 5, 0: 2, 2: 3} and not scores.not_available


def test_nist_of_two_words_of_three_is_half_their_information():
    # a and b have log2(3 / 1) each of two words, "a b" none after a; two thirds of the length cost a half.
    assert mteval.nist([("a b", ["a b c"])]) == pytest.approx(math.log2(3) / 2)
    # Twice in the answer, once in a reference: it counts once. The references' mean length is 2.
    assert mteval.nist([("a a", ["a b", "c d"])]) == pytest.approx(math.log2(4) / 2)
    assert mteval.nist([("x", ["a"])]) == 0 and mteval.nist([("", ["a"])]) == 0 and math.isnan(mteval.nist([]))


def test_tokens_are_those_of_mteval():
    assert mteval.tokens("It's £3.50, or 20-25 (family-friendly) &quot;No.&quot; 1,000.") == [
        "it's", "£3.50", ",", "or", "20", "-", "25", "(", "family-friendly", ")", '"', "no", ".", '"', "1,000", "."]
    assert mteval.tokens("  ") == []


def test_bleu_of_a_shorter_answer_is_its_brevity():
    pytest.importorskip("sacrebleu")
    example = generation_scorers.Example("A b c d", ("a b c d e", "a b x x x x x"))
    assert generation_scores.score([example], ["BLEU"]).overall["BLEU"] == pytest.approx(math.exp(1 - 5 / 4))


def test_what_is_missing_is_named_with_its_command_and_the_rest_is_given(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lacks("sacrebleu", "pycocoevalcap"))
    path = write(tmp_path / "case.jsonl")
    assert generation_scores.main([str(path), "--output", str(tmp_path / "out")]) == 0
    output, errors = capsys.readouterr()
    assert "| all | 5 | not available | 4.4259 | not available | not available | not available |\n" in output
    assert (tmp_path / "out" / "generation_scores.md").read_text(encoding="utf-8") == output
    assert errors.splitlines() == [
        f"warning: not available: {names} (the Python package {package} is missing; install it with: "
        ".venv/bin/python -m pip install --requirement analysis/requirements-generation.txt)"
        for names, package in (("BLEU", "sacrebleu"), ("METEOR, ROUGE-L, CIDEr", "pycocoevalcap"))]
    assert (ROOT / "analysis" / "requirements-generation.txt").is_file()
    found = json.loads((tmp_path / "out" / "generation_scores.json").read_text())
    assert found["overall"]["NIST"] == pytest.approx(4.4259, abs=HALF_A_DIGIT) and found["overall"]["BLEU"] is None
    assert found["clients"]["2"]["NIST"] == pytest.approx(2.3532, abs=HALF_A_DIGIT) and found["examples"] == 5
    assert set(found["not_available"]) == {"BLEU", "METEOR", "ROUGE-L", "CIDEr"}


def test_java_is_named_where_it_is_what_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: object())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "Java" in generation_scorers.missing("METEOR") and "default-jre" in generation_scorers.missing("CIDEr")
    assert generation_scorers.missing("BLEU") is None and generation_scorers.missing("NIST") is None


def test_without_clients_there_is_one_row(tmp_path, capsys):
    path = tmp_path / "one.jsonl"
    path.write_text('{"hypothesis": "a\\n b", "references": ["a b c"]}\n\n', encoding="utf-8")
    assert generation_scores.main([str(path), "--scores", "NIST"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert rows[2:] == ["| all | 1 | 0.7925 |"]


@pytest.mark.parametrize(("lines", "words"), [
    (['{"hypothesis": "a"}'], "line 1: lacks 'references'"),
    (['{"hypothesis": "a", "references": ["b"]}', "nothing"], "line 2: "),
    (['{"hypothesis": "a", "references": []}'], "line 1: references is no list of one or more texts"),
    (['{"hypothesis": "a", "references": "b"}'], "line 1: references is no list"),
    (['{"hypothesis": 3, "references": ["b"]}'], "line 1: hypothesis is no text"),
    (['{"hypothesis": "a", "references": ["b"], "client": "x"}'], "line 1: client is no whole number"),
    (["[]"], "line 1: is no object"),
    ([""], "holds no examples"),
    (['{"hypothesis": "a", "references": ["b"], "client": 1}', '{"hypothesis": "a", "references": ["b"]}'],
     "some lines name a client and some do not"),
])
def test_a_bad_line_is_named(tmp_path, capsys, lines, words):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert generation_scores.main([str(path)]) == 3
    assert words in capsys.readouterr().err


def test_wrong_use_is_told(tmp_path, capsys):
    assert generation_scores.main([str(tmp_path / "none.jsonl")]) == 3
    assert "cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        generation_scores.main(["case.jsonl", "--scores", "BLEU,ROUGE"])
    assert stopped.value.code == 2 and "'ROUGE' is none of BLEU" in capsys.readouterr().err
