"""What clients answered to their test examples, as results.h5 holds it: generated texts and spans, as texts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import xarray

from .check import text
from .loader import FormatError, load
from .measure import TASKS

MODELS = ("common", "personal")
_VARIABLE = {"generation": "tokens", "span": "row"}  # by task: what an answer has at least


@dataclass
class Questions:
    """The questions of all clients [Q], client after client, as the dataset has them, and the run's answers to them."""

    run: xarray.Dataset  # at the round that was asked for
    round: int
    dataset: Path
    client: np.ndarray  # [Q]
    item: np.ndarray  # [Q]
    references: list[list[str]]  # [Q]
    models: list[str]  # those of MODELS that answered

    def tokens(self, model: str) -> list[list[int]]:
        """Generated tokens of each question."""
        return [row[row >= 0].tolist() for row in self.run[f"{model}_answer_tokens"].values]

    def of(self, model: str, name: str) -> np.ndarray:
        """A number of each question: row, first, last, score or none."""
        return self.run[f"{model}_answer_{name}"].values


def _that_answered(run: xarray.Dataset, task: str) -> list[str]:
    return [model for model in MODELS if f"{model}_answer_{_VARIABLE[task]}" in run]


def read(path, task: str, number: int | None = None, dataset=None) -> Questions:
    """The answers of a run of that task (generation or span) at a round, the last one unless given.

    `dataset` is the run's dataset.h5, in the place that the run's options name unless given. Throws FormatError.
    """
    run = load(path)
    models = _that_answered(run, task)
    for other in _VARIABLE:
        if not models and _that_answered(run, other):
            module, _ = TASKS[other].scored_by
            raise FormatError(f"{run.attrs['path']} holds no answers of a {task}, but of a {other}, which "
                              f"python -m {module} scores")
    if not models:
        raise FormatError(f"{run.attrs['path']} holds no answers of a {task}; those are recorded in runs on data for "
                          f"{task}" + (", unless --generate-tokens is 0" if task == "generation" else ""))
    rounds = run["answer"].values.tolist()
    if not rounds:
        raise FormatError(f"{run.attrs['path']} holds no answers yet: the run has not come to a round that records "
                          "them")
    if number is not None and number not in rounds:
        raise FormatError(f"{run.attrs['path']} holds no answers of round {number}, but of "
                          f"{', '.join(map(str, rounds))}")
    number = rounds[-1] if number is None else number
    file_path = Path(dataset or run.attrs["options"]["data"])
    if digest(file_path) != run.attrs.get("data_sha256"):
        raise FormatError(f"{file_path} is not the data of {run.attrs['path']}: it has another SHA-256")
    with h5py.File(file_path) as file:
        references = [json.loads(text(value)) for value in file["item_references"][...]]
    items = run["question_item"].values
    counts = np.diff(run["question_offsets"].values)
    return Questions(run.sel(answer=number), number, file_path, np.repeat(np.arange(len(counts)), counts), items,
                     [references[item] for item in items], models)


def digest(path: Path) -> str:
    """SHA-256 of a file. Throws FormatError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error}); say where it is") from error


def generated_texts(questions: Questions, model: str, directory=None) -> list[str]:
    """What a model wrote, decoded by the tokenizer.json of the run's model (or in `directory`). Throws FormatError."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise FormatError("the Python package tokenizers is missing; install it with: .venv/bin/python -m pip install "
                          "tokenizers") from error
    path = Path(directory or questions.run.attrs["options"]["model"]) / "tokenizer.json"
    with h5py.File(questions.dataset) as file:
        wanted = text(file.attrs["tokenizer_sha256"])
    if digest(path) != wanted:
        raise FormatError(f"{path} is not the tokenizer of {questions.dataset}: it has another SHA-256")
    texts = Tokenizer.from_file(str(path)).decode_batch(questions.tokens(model))
    return [" ".join(found.split()) for found in texts]


def write_lines(folder, questions: Questions, texts: dict[str, list[str]], prompts: bool) -> None:
    """Writes answers.jsonl to `folder`, an object a question of a client, with the text of each of MODELS, or null.

    prompts: whether an item's text is its prompt, and not the context that many questions share.
    """
    names = questions.run["client_name"].values if "client_name" in questions.run else None
    with h5py.File(questions.dataset) as file:
        ids = [text(value) for value in file["item_id"][...]]
        inputs = [text(value) for value in file["item_text"][...]] if prompts else []
    lines = []
    for place, (client, item, references) in enumerate(zip(questions.client, questions.item, questions.references)):
        line = {"client": int(client), **({} if names is None else {"client_name": str(names[client])}),
                "round": questions.round, "id": ids[item], **({"prompt": inputs[item]} if prompts else {}),
                "references": references,
                **{model: texts[model][place] if model in texts else None for model in MODELS}}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    (Path(folder) / "answers.jsonl").write_text("".join(lines), encoding="utf-8")


def empty(texts: list[str]) -> str:
    """A sentence on how many texts are empty; nothing where none is."""
    count = sum(not found for found in texts)
    return f"{count} of {len(texts)} texts are empty." if count else ""


def span_texts(questions: Questions, model: str) -> list[str]:
    """What a model found, as it stands in the contexts."""
    with h5py.File(questions.dataset) as file:
        offsets, characters = file["offsets"][...], file["token_characters"][...]
        contexts = [text(value) for value in file["item_text"][...]]
    first, last = (offsets[questions.of(model, "row")] + questions.of(model, name) for name in ("first", "last"))
    begins, ends = characters[first, 0], characters[last, 1]
    return [contexts[item][begin:end] for item, begin, end in zip(questions.item, begins, ends)]
