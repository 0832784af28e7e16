"""What a dataset.h5 holds, as a page of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from prepare_file import ATTRIBUTES, FORMAT, FORMAT_VERSION
from prepare_rows import SPLIT_NAMES, InputError
from tokenizers import Tokenizer

EXAMPLES_SHOWN = 3


def open_dataset(path: Path) -> h5py.File:
    if not path.is_file():
        raise InputError(f"no file {path}; jobs/prepare.py DATASET --output {path} makes one")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error})") from None
    found, version = file.attrs.get("format"), file.attrs.get("format_version")
    if found == FORMAT and version == FORMAT_VERSION:
        return file
    file.close()
    if found != FORMAT:
        raise InputError(f"{path} is no {FORMAT} file (format: {found}); name a file that jobs/prepare.py made")
    raise InputError(f"{path} is a {FORMAT} file of version {version}, and this program reads {FORMAT_VERSION}; "
                     "make it again with jobs/prepare.py --overwrite")


def count_lines(file: h5py.File) -> list[str]:
    """Rows by class and split, as a table."""
    names = file["class_name"].asstr()[:]
    labels, split = file["labels"][:], file["split"][:]
    table = np.zeros((len(names), len(SPLIT_NAMES)), np.int64)
    np.add.at(table, (labels, split), 1)
    width = max(len("class"), *(len(name) for name in names))
    lines = [f"  {'class':<{width}}" + "".join(f"{name:>12}" for name in SPLIT_NAMES)]
    for name, counts in [*zip(names, table), ("all", table.sum(axis=0))]:
        lines.append(f"  {name:<{width}}" + "".join(f"{count:>12}" for count in counts))
    return lines


def client_line(file: h5py.File) -> str:
    if "client" not in file:
        return "clients: none named"
    counts = np.bincount(file["client"][:], minlength=len(file["client_name"]))
    return f"clients: {len(counts)} named; examples of one: {counts.min()} to {counts.max()}"


def length_line(file: h5py.File) -> str:
    lengths = np.diff(file["offsets"][:])
    at = " ".join(f"{p}%:{np.percentile(lengths, p):.0f}" for p in (5, 25, 50, 75, 95, 99))
    return f"tokens an example: mean {lengths.mean():.1f}, {at} longest:{lengths.max()}"


def task_lines(file: h5py.File) -> list[str]:
    """What the task adds: values, answers, targets, token types."""
    lines, count = [], len(file["labels"])
    if "values" in file:
        values = file["values"][:]
        lines.append(f"values: {values.min():g} to {values.max():g}, mean {values.mean():.3g}")
    if "span" in file:
        span = file["span"][:]
        held = span.any(axis=1)
        mean = (span[held, 1] - span[held, 0] + 1).mean() if held.any() else 0
        lines.append(f"windows: {count} of {len(file['item_id'])} questions; {held.sum()} hold the answer, "
                     f"its mean length {mean:.1f} tokens")  # fmt: skip
    if "target" in file:
        lengths = np.diff(file["offsets"][:]) - file["target"][:]
        lines.append(f"targets: {count} of {len(file['item_id'])} prompts; tokens of one: mean {lengths.mean():.1f}, "
                     f"longest {lengths.max()}")  # fmt: skip
    if "token_types" in file:
        lines.append(f"token types: {int(file['token_types'][:].max()) + 1}")
    return lines


def example_lines(file: h5py.File, tokenizer: Tokenizer | None) -> list[str]:
    names, offsets = file["class_name"].asstr()[:], file["offsets"][:]

    def shown(ids: np.ndarray) -> str:
        numbers = [int(token) for token in ids]
        return tokenizer.decode(numbers, skip_special_tokens=False) if tokenizer else " ".join(map(str, numbers))

    lines = []
    for i in range(min(EXAMPLES_SHOWN, len(offsets) - 1)):
        ids = file["tokens"][offsets[i] : offsets[i + 1]]
        where = SPLIT_NAMES[file["split"][i]]
        lines.append(f"  {where}, {names[file['labels'][i]]}: {shown(ids)}")
        if "values" in file:
            lines.append(f"    value: {file['values'][i]:g}")
        if "span" in file and (span := file["span"][i]).any():
            lines.append(f"    answer, tokens {span[0]} to {span[1]}: {shown(ids[span[0] : span[1] + 1])}")
        if "target" in file:
            lines.append(f"    target, from token {file['target'][i]}: {shown(ids[file['target'][i] :])}")
        if "item" in file:
            references = json.loads(file["item_references"].asstr()[file["item"][i]])
            lines.append(f"    references: {len(references)}")
    return lines


def describe(path: Path, find_tokenizer: Any) -> str:
    """A page of text about a dataset.h5; find_tokenizer(name, sha256) gives the Tokenizer or None."""
    with open_dataset(path) as file:
        try:
            return page_of(path, file, find_tokenizer)
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}); make it again with jobs/prepare.py --overwrite") from None


def page_of(path: Path, file: h5py.File, find_tokenizer: Any) -> str:
    attributes = {name: file.attrs.get(name, "") for name in ATTRIBUTES}
    tokenizer = find_tokenizer(attributes["tokenizer"], attributes["tokenizer_sha256"])
    classes = len(file["class_name"])
    lines = [f"{path}: {len(file['labels'])} examples, {classes} class{'es' if classes > 1 else ''}"]
    lines += [f"  {name}: {value}" for name, value in attributes.items()]
    lines += ["rows", *count_lines(file), client_line(file), length_line(file), *task_lines(file)]
    shown = "first examples" if tokenizer else "first examples (token ids: the tokenizer is not at hand)"
    return "\n".join([*lines, shown, *example_lines(file, tokenizer)])
