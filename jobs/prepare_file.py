"""dataset.h5: writing one, and describing one.

Layout, format version 1: tokens int32 [T] (all examples end to end), offsets int64 [N + 1], labels int32 [N],
split int8 [N] (0 train, 1 validation, 2 test), class_name [C] UTF-8, and where the data names clients
client int32 [N] and client_name [K]. Root attributes: see ATTRIBUTES.
"""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from prepare_sources import SPLIT_NAMES, TEST, TRAIN, InputError, Row
from prepare_tokens import Tokens
from tokenizers import Tokenizer

FORMAT, FORMAT_VERSION = "pf2lora-dataset", 1
ATTRIBUTES = (
    "name", "source", "licence", "text_columns", "tokenizer", "tokenizer_sha256", "vocabulary_size", "max_length",
    "input_sha256", "created_utc", "command",
)  # fmt: skip
EXAMPLES_SHOWN = 3
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Naming:
    """Names in their order, and the position of each row's."""

    names: list[str]
    index: np.ndarray


def is_integer(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def numbered(values: Iterable[str | int]) -> Naming:
    """Distinct values in order: by number when all are integers, else by code point."""
    names = [str(value) for value in values]
    distinct = set(names)
    by_number = all(is_integer(name) for name in distinct)
    ordered = sorted(distinct, key=lambda name: (int(name) if by_number else 0, name))
    position = {name: i for i, name in enumerate(ordered)}
    return Naming(ordered, np.fromiter((position[name] for name in names), np.int32, len(names)))


def text_dataset(file: h5py.File, name: str, values: list[str]) -> None:
    file.create_dataset(name, data=values, dtype=h5py.string_dtype("utf-8"))


def write_dataset(path: Path, rows: list[Row], tokens: Tokens, attributes: dict[str, Any]) -> None:
    """Writes to a temporary name beside path and renames, so that path is never half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = np.int64(FORMAT_VERSION)
            for name in ATTRIBUTES:
                value = attributes[name]
                file.attrs[name] = np.int64(value) if isinstance(value, int) else value
            classes = numbered(row.label for row in rows)
            file["tokens"], file["offsets"] = tokens.ids.astype(np.int32), tokens.offsets.astype(np.int64)
            file["labels"] = classes.index
            file["split"] = np.asarray([row.split for row in rows], np.int8)
            text_dataset(file, "class_name", classes.names)
            if any(row.client is not None for row in rows):
                clients = numbered(row.client for row in rows if row.client is not None)
                file["client"] = clients.index
                text_dataset(file, "client_name", clients.names)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error}); name another place with --output") from None
    finally:
        temporary.unlink(missing_ok=True)


def listed(names: list[str]) -> str:
    """The first names, and dots where there are more."""
    return ", ".join([*names[:NAMES_SHOWN], *(["..."] if len(names) > NAMES_SHOWN else [])])


def label_notes(rows: list[Row]) -> list[str]:
    """What a reader of the file should know about its labels and texts."""
    notes = []
    trained = {str(row.label) for row in rows if row.split == TRAIN}
    unseen = numbered(r.label for r in rows if r.split != TRAIN and str(r.label) not in trained).names
    if unseen:
        notes.append(f"labels without a training example: {len(unseen)} ({listed(unseen)})")
    texts = {(row.text, row.text2) for row in rows if row.split == TRAIN}
    repeated = sum((row.text, row.text2) in texts for row in rows if row.split == TEST)
    if repeated:
        notes.append(f"test texts that are also training texts: {repeated}")
    return notes


def label_warnings(rows: list[Row]) -> list[str]:
    """What is probably wrong with the labels: classes of one row, and texts that carry several labels."""
    warnings = []
    count = Counter(str(row.label) for row in rows)
    single = [f"'{row.label}' at {row.where}:{row.line}" for row in rows if count[str(row.label)] == 1]
    if single:
        warnings.append(
            f"classes with a single usable row: {len(single)} ({listed(single)}); they cannot be both trained on and "
            "tested"
        )
    by_text: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        by_text.setdefault((row.text, row.text2), []).append(row)
    disputed = [same for same in by_text.values() if len({str(row.label) for row in same}) > 1]
    if disputed:
        one = disputed[0][0]
        other = next(row for row in disputed[0] if str(row.label) != str(one.label))
        warnings.append(
            f"texts that carry different labels: {len(disputed)}, in {sum(map(len, disputed))} rows; such as "
            f"{one.where}:{one.line} '{one.label}' and {other.where}:{other.line} '{other.label}'"
        )
    return warnings


# Describing


def open_dataset(path: Path) -> h5py.File:
    if not path.is_file():
        raise InputError(f"no file {path}; jobs/prepare.py DATASET --output {path} makes one")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error})") from None
    found, version = file.attrs.get("format"), file.attrs.get("format_version")
    if found != FORMAT or version != FORMAT_VERSION:
        file.close()
        raise InputError(
            f"{path} is not a {FORMAT} file of version {FORMAT_VERSION} (format: {found}, version: {version}); "
            "make it again with jobs/prepare.py --overwrite"
        )
    return file


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


def example_lines(file: h5py.File, tokenizer: Tokenizer | None) -> list[str]:
    names, offsets = file["class_name"].asstr()[:], file["offsets"][:]
    lines = []
    for i in range(min(EXAMPLES_SHOWN, len(offsets) - 1)):
        ids = [int(token) for token in file["tokens"][offsets[i] : offsets[i + 1]]]
        text = tokenizer.decode(ids, skip_special_tokens=False) if tokenizer else " ".join(map(str, ids))
        where = SPLIT_NAMES[file["split"][i]]
        lines.append(f"  {where}, {names[file['labels'][i]]}: {text}")
    return lines


def describe(path: Path, find_tokenizer: Any) -> str:
    """A page of text about a dataset.h5; find_tokenizer(name, sha256) gives the Tokenizer or None."""
    with open_dataset(path) as file:
        try:
            return page_of(path, file, find_tokenizer)
        except (KeyError, IndexError) as error:
            raise InputError(f"{path} is damaged ({error}); make it again with jobs/prepare.py --overwrite") from None


def page_of(path: Path, file: h5py.File, find_tokenizer: Any) -> str:
    attributes = {name: file.attrs.get(name, "") for name in ATTRIBUTES}
    tokenizer = find_tokenizer(attributes["tokenizer"], attributes["tokenizer_sha256"])
    lines = [f"{path}: {len(file['labels'])} examples, {len(file['class_name'])} classes"]
    lines += [f"  {name}: {value}" for name, value in attributes.items()]
    lines += ["rows", *count_lines(file), client_line(file), length_line(file)]
    shown = "first examples" if tokenizer else "first examples (token ids: the tokenizer is not at hand)"
    return "\n".join([*lines, shown, *example_lines(file, tokenizer)])
