"""BLEU, NIST, METEOR, ROUGE-L, CIDEr by client, of a run's generated texts or of those in a file.

python -m analysis.generation_scores RUN|FILE.jsonl [--output DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import answers, command
from .generation_scorers import NAMES, Example, scorers
from .loader import FormatError
from .runs import client_names
from .table import DASH, Table, number

_DIGITS = 4  # as the E2E challenge's script prints them


@dataclass
class Scores:
    """Scores by name (NaN where there is none) over all examples, by client, and why some are not available."""

    overall: dict[str, float]
    clients: dict[int, dict[str, float]]
    examples: dict[int | None, int]  # of each client, and of all under None
    not_available: dict[str, str]

    def mean_over_clients(self) -> dict[str, float]:
        return {name: float(np.mean([scores[name] for scores in self.clients.values()])) for name in self.overall}

    def table(self, title: str = "Scores of generated texts", clients: Sequence[str] = ()) -> Table:
        """All examples, the mean over clients, and each client, by its name in `clients` where there are any."""
        found = Table(title, ["", "examples", *self.overall])
        found.rows.append(["all", str(self.examples[None]), *self._cells(self.overall)])
        if self.clients:
            found.rows.append(["mean over clients", DASH, *self._cells(self.mean_over_clients())])
        for client, scores in self.clients.items():
            name = clients[client] if clients else client
            found.rows.append([f"client {name}", str(self.examples[client]), *self._cells(scores)])
        found.note = "BLEU, METEOR and ROUGE-L from 0 to 1."
        if self.clients:
            found.note += (" A client's scores are those of its examples alone: information and document frequencies "
                           "(NIST, CIDEr) come from its references.")
        return found

    def reasons(self) -> list[str]:
        """A line for each reason why scores are not available."""
        names: dict[str, list[str]] = {}
        for name, why in self.not_available.items():
            names.setdefault(why, []).append(name)
        return [f"{', '.join(given)} ({why})" for why, given in names.items()]

    def _cells(self, scores: dict[str, float]) -> list[str]:
        return ["not available" if name in self.not_available else number(score, _DIGITS)
                for name, score in scores.items()]

    def as_values(self) -> dict:
        """For JSON: null where there is no score."""
        def plain(scores):
            return {name: None if math.isnan(score) else score for name, score in scores.items()}

        return {"overall": plain(self.overall), "examples": self.examples[None],
                "mean_over_clients": plain(self.mean_over_clients()) if self.clients else None,
                "clients": {str(client): {"examples": self.examples[client], **plain(scores)}
                            for client, scores in self.clients.items()},
                "not_available": self.not_available}


def score(examples: list[Example], names=NAMES) -> Scores:
    """Every score of `names`, over all examples and by client where these have one."""
    functions, lacking = scorers(examples, names)

    def of(chosen: list[int]) -> dict[str, float]:
        return {name: functions[name](chosen) if name in functions else math.nan for name in names}

    groups: dict[int, list[int]] = {}
    for i, example in enumerate(examples):
        if example.client is not None:
            groups.setdefault(example.client, []).append(i)
    counts = {None: len(examples), **{client: len(chosen) for client, chosen in groups.items()}}
    return Scores(of(list(range(len(examples)))), {client: of(groups[client]) for client in sorted(groups)}, counts,
                  lacking)


def read_jsonl(path) -> list[Example]:
    """Examples of lines {"hypothesis": text, "references": [text, ...], "client": k}, the client in all lines or none.

    Runs of white space become one space. Throws FormatError, which names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read ({error})") from error
    found = []
    for line_number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_example(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
                raise FormatError(f"{path}, line {line_number}: {what}") from error
    if not found:
        raise FormatError(f"{path} holds no examples")
    if len({example.client is None for example in found}) > 1:
        raise FormatError(f"{path}: some lines name a client and some do not")
    return found


def _example(value) -> Example:
    if not isinstance(value, dict):
        raise ValueError("is no object")
    hypothesis, references, client = value["hypothesis"], value["references"], value.get("client")
    if not isinstance(hypothesis, str):
        raise ValueError("hypothesis is no text")
    if not isinstance(references, list) or not references or not all(isinstance(text, str) for text in references):
        raise ValueError("references is no list of one or more texts")
    if client is not None and (not isinstance(client, int) or isinstance(client, bool)):
        raise ValueError("client is no whole number")
    return Example(" ".join(hypothesis.split()), tuple(" ".join(text.split()) for text in references), client)


def examples_of(questions: answers.Questions, texts: list[str]) -> list[Example]:
    """What a model wrote in a run, beside the references."""
    return [Example(text, tuple(" ".join(reference.split()) for reference in references), int(client))
            for text, references, client in zip(texts, questions.references, questions.client)]


def main(arguments=None) -> int:
    """The command; returns its exit code: 0, 2 for bad use, 3 for a bad file. A score that is missing is no error."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.generation_scores",
        description="Scores generated texts as the E2E and WebNLG challenges do, over all and by client, as a table. "
                    "What a score needs and is not installed is named; the others are given.")
    parser.add_argument("source", metavar="RUN|FILE.jsonl",
                        help="output directory (or results.h5) of a run on data for generation; or lines "
                             "{\"hypothesis\": text, \"references\": [text, ...], \"client\": k}; client is optional")
    parser.add_argument("--output", metavar="DIR",
                        help="also writes generation_scores.md, generation_scores.json and, of a run, answers.jsonl: a "
                             "line a prompt of a client with client, client_name, round, id, prompt, references, and the "
                             "texts common and personal")
    parser.add_argument("--scores", metavar="NAMES", default=",".join(NAMES), help=f"[{','.join(NAMES)}]")
    parser.add_argument("--round", type=int, metavar="R", help="of a run: the round that is scored [the last one]")
    parser.add_argument("--data", metavar="FILE", help="of a run: its dataset.h5 [where its options say]")
    parser.add_argument("--model", metavar="DIR", help="of a run: where its tokenizer.json is [where its options say]")
    chosen = parser.parse_args(arguments)
    names = chosen.scores.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"--scores: '{unknown[0]}' is none of {', '.join(NAMES)}")

    def tell() -> None:
        source = Path(chosen.source)
        of_run = source.is_dir() or source.suffix == ".h5"
        questions = answers.read(source, "generation", chosen.round, chosen.data) if of_run else None
        texts = {} if questions is None else {model: answers.generated_texts(questions, model, chosen.model)
                                              for model in questions.models}
        page, values, lacking = (_scores_of_run(questions, texts, names) if questions
                                 else _scores_of_lines(source, names))
        print(page, end="")
        for line in lacking:
            print(f"warning: not available: {line}", file=sys.stderr)
        if chosen.output:
            command.write_scores(chosen.output, "generation_scores", page, values)
            if questions:
                answers.write_lines(chosen.output, questions, texts, prompts=True)

    return command.ended(tell, "the scores")


def _scores_of_lines(path: Path, names: list[str]) -> tuple[str, dict, list[str]]:
    """The page, what JSON holds of it, and what is not available."""
    scores = score(read_jsonl(path), names)
    return scores.table().markdown(), scores.as_values(), scores.reasons()


def _scores_of_run(questions: answers.Questions, texts: dict[str, list[str]],
                   names: list[str]) -> tuple[str, dict, list[str]]:
    """The same of what each model wrote."""
    found = {model: score(examples_of(questions, written), names) for model, written in texts.items()}
    clients = client_names(questions.run)
    tables = {model: scores.table(f"Texts of the {model} model after round {questions.round}", clients)
              for model, scores in found.items()}
    for model, written in texts.items():
        tables[model].note = f"{answers.empty(written)} {tables[model].note}".lstrip()
    values = {"round": questions.round, **{model: scores.as_values() for model, scores in found.items()}}
    page = "\n".join(table.markdown() for table in tables.values())
    return page, values, next(iter(found.values())).reasons()


if __name__ == "__main__":
    sys.exit(main())
