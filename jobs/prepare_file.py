"""dataset.h5, format version 2: N examples of T tokens.

Always: tokens int32 [T] (all examples end to end), offsets int64 [N + 1], split int8 [N] (0 train, 1 validation,
2 test), labels int32 [N] with class_name [C] UTF-8: what partitions share examples out by. Root attributes: see
ATTRIBUTES; task is one of
  classification  the label is the class
  regression      the label is the value, rounded; values float32 [N]
  span            the label is answered or unanswerable; an example is a window of (question, context); span int32
                  [N, 2]: first and last token of the answer in the example, 0 and 0 where it is not in it;
                  token_characters int32 [T, 2]: begin and end in the context, in code points, -1 outside it
  generation      the label is a category; target int32 [N]: the first token of the example that is learned, those
                  before it are the prompt
Span and generation: item int32 [N], the question or prompt that an example belongs to, and by item item_id [I],
item_text [I] (the context, the prompt), item_references [I] (a JSON list of texts). A question's windows stand
together. Where the data name clients: client int32 [N] and client_name [K]. For pairs, where the model tells token
types apart: token_types int8 [T]; without it all are 0.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from prepare_rows import TEST, TRAIN, InputError, Row
from prepare_tokens import Tokens

FORMAT, FORMAT_VERSION = "pf2lora-dataset", 2
ATTRIBUTES = (
    "name", "task", "metrics", "source", "licence", "text_columns", "tokenizer", "tokenizer_sha256",
    "vocabulary_size", "max_length", "input_sha256", "created_utc", "command",
)  # fmt: skip
NAMES_SHOWN = 5


def format_version(path: Path) -> int | None:
    """Of the dataset file at path; None where there is none."""
    try:
        with h5py.File(path) as file:
            version = file.attrs.get("format_version") if file.attrs.get("format") == FORMAT else None
            return None if version is None else int(version)
    except OSError:
        return None


@dataclass(frozen=True)
class Naming:
    """Names in their order, and the position of each row's."""

    names: list[str]
    index: np.ndarray


def is_integer(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def numbered(values: Iterable[str | int], order: Sequence[str] = ()) -> Naming:
    """Distinct values: those in order first, then by number when all are integers, else by code point."""
    names = [str(value) for value in values]
    distinct = set(names)
    by_number = all(is_integer(name) for name in distinct)
    place = {name: i for i, name in enumerate(order)}
    ordered = sorted(distinct, key=lambda name: (place.get(name, len(place)), int(name) if by_number else 0, name))
    position = {name: i for i, name in enumerate(ordered)}
    return Naming(ordered, np.fromiter((position[name] for name in names), np.int32, len(names)))


def text_dataset(file: h5py.File, name: str, values: list[str]) -> None:
    file.create_dataset(name, data=values, dtype=h5py.string_dtype("utf-8"))


def write_dataset(
    path: Path, rows: list[Row], tokens: Tokens, attributes: dict[str, Any], classes: Naming
) -> None:  # fmt: skip
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
            file["tokens"], file["offsets"] = tokens.ids.astype(np.int32), tokens.offsets.astype(np.int64)
            file["labels"] = classes.index
            file["split"] = np.asarray([row.split for row in rows], np.int8)
            text_dataset(file, "class_name", classes.names)
            if any(row.client is not None for row in rows):
                clients = numbered(row.client for row in rows if row.client is not None)
                file["client"] = clients.index
                text_dataset(file, "client_name", clients.names)
            if tokens.types is not None:
                file["token_types"] = tokens.types
            for name, values in tokens.columns.items():
                file[name] = values
            if tokens.items:
                text_dataset(file, "item_id", [item.id for item in tokens.items])
                text_dataset(file, "item_text", [item.text for item in tokens.items])
                references = [json.dumps(item.references, ensure_ascii=False) for item in tokens.items]
                text_dataset(file, "item_references", references)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # HDF5's own text is long
        raise InputError(f"cannot write {path} ({reason}); name another place with --output") from None
    finally:
        temporary.unlink(missing_ok=True)


def listed(names: list[str]) -> str:
    """The first names, and dots where there are more."""
    return ", ".join([*names[:NAMES_SHOWN], *(["..."] if len(names) > NAMES_SHOWN else [])])


def text_notes(rows: list[Row]) -> list[str]:
    """What a reader of the file should know about its texts."""
    notes = []
    texts = {(row.text, row.text2) for row in rows if row.split == TRAIN}
    repeated = sum((row.text, row.text2) in texts for row in rows if row.split == TEST)
    if repeated:
        notes.append(f"test texts that are also training texts: {repeated}")
    return notes


def label_warnings(rows: list[Row]) -> list[str]:
    """What is probably wrong with the labels: classes that no training row or one row has, texts that carry several."""
    warnings = []
    trained = {str(row.label) for row in rows if row.split == TRAIN}
    foreign = [row for row in rows if str(row.label) not in trained]
    unseen = numbered(row.label for row in foreign).names
    if unseen:
        warnings.append(
            f"labels without a training example: {len(unseen)} ({listed(unseen)}); no model can learn them, "
            f"and of the other rows {len(foreign)} have them"
        )
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
