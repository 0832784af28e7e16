"""What a source hands on: rows that can be used, refused ones with line number and reason, and where they are from.

Nothing here knows about files, tokens or HDF5.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")
CLASSIFICATION, REGRESSION, SPAN, GENERATION = TASKS = ("classification", "regression", "span", "generation")

MOST = 1e6  # of a regression's value

Values = dict[str, Any]  # of one row by column


class InputError(Exception):
    """The input cannot be used (exit code 3)."""


class UsageError(Exception):
    """The options do not fit together (exit code 2)."""


class BadRow(Exception):
    """One row cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns (keys of a JSON object, features of a hub data set) that are read."""

    text: str
    label: str | None = None
    text2: str | None = None
    client: str | None = None
    target: str | None = None
    also: tuple[str, ...] = ()
    inside: bool = False  # label and client name what stands inside the text, and no columns

    def wanted(self) -> list[str]:
        named = () if self.inside else (self.label, self.client)
        names = (self.text, self.text2, self.target, *self.also, *named)
        return list(dict.fromkeys(name for name in names if name is not None))

    def texts(self) -> str:
        return ",".join(name for name in (self.text, self.text2) if name)


@dataclass(frozen=True)
class Place:
    """Where a row stands: its split, the file or split of the hub, and the line or row in it."""

    split: int
    where: str
    line: int


@dataclass(frozen=True)
class Row:
    """One example; a span's text is the question and its text2 the context, a generation's text is the prompt."""

    text: str
    label: str | int
    split: int
    text2: str | None = None
    client: str | int | None = None
    where: str = ""
    line: int = 0
    value: float | None = None  # of a regression
    answers: tuple[tuple[int, str], ...] = ()  # of a span: first character in the context, text; none: unanswerable
    question_id: str = ""  # of a span
    target: str | None = None  # of a generation
    slots: tuple[str, ...] = ()  # names of what stands inside the text, where label and client are such names


@dataclass(frozen=True)
class Refusal:
    where: str
    line: int
    reason: str


RowMaker = Callable[[Values, Columns, Place], list[Row]]


@dataclass
class Source:
    """Rows of all splits, and what the file must say about where they come from."""

    rows: list[Row] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    input_sha256: str = ""
    origin: str = ""
    licence: str = ""
    notes: list[str] = field(default_factory=list)
    splits: set[int] = field(default_factory=set)  # those that the input has itself

    def take(self, records: Iterable[tuple[int, Values | BadRow]], make: RowMaker, columns: Columns, split: int,
             where: str) -> int:  # fmt: skip
        """Adds the rows that make gives for the records, or the reason why there are none; how many there were."""
        before = len(self.rows)
        for number, values in records:
            try:
                if isinstance(values, BadRow):
                    raise values
                self.rows += make(values, columns, Place(split, where, number))
            except BadRow as error:
                self.refused.append(Refusal(where, number, str(error)))
        return len(self.rows) - before


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' bytes one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def stratified_test_rows(labels: list[Any], texts: list[str], share: float, seed: int) -> list[bool]:
    """For each example, whether it goes to the test split: the share of every label whose texts hash lowest.

    The choice depends on seed and text alone, not on the order of the rows or on a library's generator. A label
    with two examples or more keeps at least one in each split.
    """
    by_label: dict[Any, list[int]] = {}
    for i, label in enumerate(labels):
        by_label.setdefault(label, []).append(i)
    chosen = [False] * len(labels)
    for members in by_label.values():
        count = int(len(members) * share + 0.5)
        if share > 0 and len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        keyed = sorted((hashlib.sha256(f"{seed}\0{texts[i]}".encode()).digest(), i) for i in members)
        for _, i in keyed[:count]:
            chosen[i] = True
    return chosen


def split_off_test(rows: list[Row], share: float, seed: int, by_label: bool = True) -> list[Row]:
    keys = [row.text if row.text2 is None else row.text + "\0" + row.text2 for row in rows]
    chosen = stratified_test_rows([row.label if by_label else "" for row in rows], keys, share, seed)
    return [replace(row, split=TEST if test else TRAIN) for row, test in zip(rows, chosen)]


def split_off_test_texts(rows: list[Row], share: float, seed: int) -> list[Row]:
    """As split_off_test, but rows of one context or one prompt stay together, under the label of the first."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.text2 or row.text, row)
    chosen = stratified_test_rows([row.label for row in first.values()], list(first), share, seed)
    tested = {text for text, test in zip(first, chosen) if test}
    return [replace(row, split=TEST if (row.text2 or row.text) in tested else TRAIN) for row in rows]


# Values of one row


def has_surrogate(text: str) -> bool:
    """Whether text holds half a UTF-16 pair, or a byte that could not be decoded."""
    return any("\ud800" <= c <= "\udfff" for c in text)


def name_value(value: Any, what: str) -> str | int:
    """A label's or client's value as a string or an integer."""
    if isinstance(value, str):
        value = value.strip()
        if "\0" in value or has_surrogate(value):
            raise BadRow(f"{what} is not valid text")
        if value:
            return value
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    elif value is not None:
        raise BadRow(f"{what} is neither a string nor an integer")
    raise BadRow(f"missing {what}")


def text_value(value: Any, what: str) -> str:
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{what} is not a string")
    if not value or not value.strip():
        raise BadRow(f"empty {what}")
    if has_surrogate(value):
        raise BadRow(f"{what} is not valid Unicode")
    return value


def number_value(value: Any, column: str, place: Place) -> float:
    """A number, or the text of one; anything else but nothing at all ends the run: the column is not a regression's."""
    if value is None or isinstance(value, str) and not value.strip():
        raise BadRow("missing value")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > MOST:
        raise InputError(
            f"{place.where}:{place.line}: '{value}' in column '{column}' is not a number; a regression needs one in "
            "every row (see --label), and classes are --task classification"
        )
    return number


def rounded(value: float) -> int:
    return math.floor(value + 0.5)


# Rows of tables, by task


def texts_of(values: Values, columns: Columns) -> tuple[str, str | None]:
    text = text_value(values[columns.text], "text")
    return text, text_value(values[columns.text2], "second text") if columns.text2 else None


def client_of(values: Values, columns: Columns) -> str | int | None:
    if columns.client is None:
        return None
    if columns.client not in values:
        raise InputError(f"no column '{columns.client}' for --client; there are: {', '.join(values)}")
    return name_value(values[columns.client], "client")


def classified(values: Values, columns: Columns, place: Place) -> list[Row]:
    text, text2 = texts_of(values, columns)
    label = name_value(values[columns.label], "label")
    return [Row(text, label, place.split, text2, client_of(values, columns), place.where, place.line)]


def valued(values: Values, columns: Columns, place: Place) -> list[Row]:
    text, text2 = texts_of(values, columns)
    value = number_value(values[columns.label], columns.label or "", place)
    client = client_of(values, columns)
    return [Row(text, rounded(value), place.split, text2, client, place.where, place.line, value=value)]


def generated(values: Values, columns: Columns, place: Place) -> list[Row]:
    prompt, target = text_value(values[columns.text], "prompt"), text_value(values[columns.target], "target")
    label = name_value(values[columns.label], "label") if columns.label else "text"
    client = client_of(values, columns)
    return [Row(prompt, label, place.split, None, client, place.where, place.line, target=target.strip())]


ROWS_OF = {CLASSIFICATION: classified, REGRESSION: valued, GENERATION: generated}
