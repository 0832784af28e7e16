"""Exact match and F1 of the spans that the clients of a run found, over all and by client."""

from __future__ import annotations

import argparse
import math

import numpy as np

from . import answers, command, metrics
from .runs import client_names
from .table import DASH, Table, number

_DIGITS = 4


def score(questions: answers.Questions, model: str, texts: list[str]) -> dict[int | None, dict[str, float]]:
    """The scores of metrics.squad for a model's best spans by client, and of all questions under None.

    Where the data have questions without an answer, none is given where the score of no answer is the higher one:
    its probability, sigmoid(none - score), is above a half.
    """
    unanswerable = _unanswerable(questions)
    difference = questions.of(model, "none") - questions.of(model, "score")
    none = 1 / (1 + np.exp(-np.clip(difference, -700, 700)))

    def of(chosen: np.ndarray) -> dict[str, float]:
        spans, wanted = [texts[i] for i in chosen], [questions.references[i] for i in chosen]
        found = metrics.squad(spans, wanted, none[chosen], 0.5) if unanswerable else metrics.squad(spans, wanted)
        return {"questions": len(chosen), **found}

    every = np.arange(len(texts))
    return {None: of(every)} | {int(k): of(every[questions.client == k]) for k in np.unique(questions.client)}


def _unanswerable(questions: answers.Questions) -> bool:
    return not all(questions.references)


def given(questions: answers.Questions, model: str, texts: list[str]) -> list[str]:
    """What a model answers to each question: its best span, or nothing where it gives no answer."""
    if not _unanswerable(questions):
        return texts
    return ["" if none > best else text
            for text, none, best in zip(texts, questions.of(model, "none"), questions.of(model, "score"))]


def mean_over_clients(scores: dict[int | None, dict[str, float]]) -> dict[str, float]:
    """Of clients that have questions; of those of a kind, where a score is of that kind alone."""
    def mean(name):
        values = [found[name] for client, found in scores.items() if client is not None and name in found]
        values = [value for value in values if not math.isnan(value)]
        return float(np.mean(values)) if values else math.nan

    return {name: mean(name) for name in scores[None] if name != "questions"}


def table(scores: dict[int | None, dict[str, float]], model: str, questions: answers.Questions) -> Table:
    """All questions, the mean over clients, and each client."""
    clients = client_names(questions.run)
    names = [name for name in scores[None] if name != "questions"]
    found = Table(f"Spans of the {model} model after round {questions.round}", ["", "questions", *names])

    def row(label, count, values):
        found.rows.append([label, str(count), *(number(values.get(name, math.nan), _DIGITS) for name in names)])

    row("all", scores[None]["questions"], scores[None])
    row("mean over clients", DASH, mean_over_clients(scores))
    for client, values in scores.items():
        if client is not None:
            row(f"client {clients[client]}", values["questions"], values)
    return found


def as_values(by_model: dict[str, dict[int | None, dict[str, float]]], round_number: int) -> dict:
    """What JSON holds; None where there is no score."""
    def plain(values):
        return {name: None if math.isnan(value) else value for name, value in values.items()}

    found: dict = {"round": round_number}
    for model, scores in by_model.items():
        found[model] = {"overall": plain(scores[None]), "mean_over_clients": plain(mean_over_clients(scores)),
                        "clients": {str(k): plain(values) for k, values in scores.items() if k is not None}}
    return found


def main(arguments=None) -> int:
    """The command; returns its exit code: 0, 2 for bad use, 3 for a bad file."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.metrics",
        description="Exact match and F1, as SQuAD's own scripts count them, of the spans that the common model and the "
                    "clients' own found in their test questions; over all questions and by client.")
    parser.add_argument("run", metavar="RUN", help="output directory of a run on data for spans, or its results.h5")
    parser.add_argument("--round", type=int, metavar="R", help="round whose answers are scored [the last one]")
    parser.add_argument("--data", metavar="FILE", help="the run's dataset.h5 [where the run's options say]")
    parser.add_argument("--output", metavar="DIR",
                        help="also writes span_scores.md, span_scores.json and answers.jsonl: a line a question of a "
                             "client with client, client_name, round, id, references, and the texts common and personal")
    chosen = parser.parse_args(arguments)

    def tell() -> None:
        questions = answers.read(chosen.run, "span", chosen.round, chosen.data)
        spans = {model: answers.span_texts(questions, model) for model in questions.models}
        found = {model: score(questions, model, best) for model, best in spans.items()}
        texts = {model: given(questions, model, best) for model, best in spans.items()}
        tables = {model: table(scores, model, questions) for model, scores in found.items()}
        for model, written in texts.items():
            tables[model].note = answers.empty(written)
        page = "\n".join(of_model.markdown() for of_model in tables.values())
        print(page, end="")
        if chosen.output:
            command.write_scores(chosen.output, "span_scores", page, as_values(found, questions.round))
            answers.write_lines(chosen.output, questions, texts, prompts=False)

    return command.ended(tell, "the scores")
