"""Where examples come from: WordNet's nouns, tables of text (TSV, CSV, JSONL), and the Hugging Face hub.

Every source gives a Source: the rows that can be used, in the order of the input, and the refused ones with
line number and reason. Nothing here knows about tokens or about HDF5.
"""
from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")

# Lexicographer files of the nouns by number, as in lexnames(5WN).
NOUN_FILES = {
    3 + i: "noun." + name
    for i, name in enumerate(
        "Tops act animal artifact attribute body cognition communication event feeling food group location "
        "motive object person phenomenon plant possession process quantity relation shape state substance "
        "time".split()
    )
}
FEWEST_GLOSSES = 100


class InputError(Exception):
    """The input cannot be used (exit code 3)."""


class UsageError(Exception):
    """The options do not fit together (exit code 2)."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns (keys of a JSON object, features of a hub data set) that are read."""

    text: str
    label: str
    text2: str | None = None
    client: str | None = None

    def wanted(self) -> list[str]:
        return [name for name in (self.text, self.text2, self.label, self.client) if name is not None]


@dataclass(frozen=True)
class Row:
    text: str
    label: str | int
    split: int
    text2: str | None = None
    client: str | int | None = None
    where: str = ""  # file or split, and the number of the line or row in it
    line: int = 0


@dataclass(frozen=True)
class Refusal:
    where: str
    line: int
    reason: str


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


class BadRow(Exception):
    """One row cannot be used; the message is the reason."""


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


def split_off_test(rows: list[Row], share: float, seed: int) -> list[Row]:
    keys = [row.text if row.text2 is None else row.text + "\0" + row.text2 for row in rows]
    chosen = stratified_test_rows([row.label for row in rows], keys, share, seed)
    return [replace(row, split=TEST if test else TRAIN) for row, test in zip(rows, chosen)]


# WordNet


def definition(gloss: str) -> str:
    """A gloss without its quoted usage examples and their attributions; empty when nothing else is there."""
    marked = re.sub(r'"[^"]*(?:"|$)(?:\s*-+[^;"]*)?', "\0", gloss)
    parts = [part.strip() for part in marked.split(";")]
    kept = (part.replace("\0", " ") for part in parts if not part.startswith("\0"))
    tidy = (re.sub(r"\(\s*(?:e\.g\.)?[\s,]*\)", "", part) for part in kept)
    parts = [re.sub(r"\s+", " ", part).strip(" ,:-") for part in tidy]
    return "; ".join(part for part in parts if part)


def wordnet_row(line: str, where: str, line_number: int) -> Row:
    fields, bar, gloss = line.partition("|")
    number = fields.split(" ", 2)[1:2]
    if not bar or not number or not number[0].isdigit():
        raise BadRow("not a line of a WordNet data file")
    name = NOUN_FILES.get(int(number[0]))
    if name is None:
        raise BadRow(f"lexicographer file {number[0]} is not one of the nouns'")
    text = definition(gloss)
    if not text:
        raise BadRow("empty text")
    return Row(text, name, TRAIN, where=where, line=line_number)


def read_wordnet(directory: Path, test_share: float, seed: int) -> Source:
    """The nouns' definitions (data.noun, format in wndb(5WN)), labelled with their lexicographer file."""
    path = directory / "data.noun"
    if not path.is_file():
        raise InputError(
            f"no WordNet nouns at {path}; install the package wordnet-base, or name the folder of data.noun "
            "with --wordnet-dir"
        )
    source = Source(origin="WordNet 3.0, data.noun", licence="WordNet 3.0 licence, Princeton University")
    source.input_sha256 = files_sha256([path])
    for number, line in enumerate(path.read_text("ascii", "replace").splitlines(), 1):
        if line.startswith("  "):  # the licence at the top
            continue
        try:
            source.rows.append(wordnet_row(line, path.name, number))
        except BadRow as error:
            source.refused.append(Refusal(path.name, number, str(error)))
    source.notes.append(f"{len(source.rows)} noun definitions in {path}")
    source.rows = split_off_test(without_small_classes(source), test_share, seed)
    return source


def without_small_classes(source: Source) -> list[Row]:
    count: dict[str | int, int] = {}
    for row in source.rows:
        count[row.label] = count.get(row.label, 0) + 1
    for name in sorted(str(label) for label in count if count[label] < FEWEST_GLOSSES):
        source.notes.append(f"class {name} dropped: {count[name]} definitions, fewer than {FEWEST_GLOSSES}")
    return [row for row in source.rows if count[row.label] >= FEWEST_GLOSSES]


# Tables of text. A reader gives (line number, values by column or the reason why there are none).

Values = dict[str, Any]


def decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow(f"not UTF-8 (byte 0x{line[error.start]:02x})") from None


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1, without line end; a byte order mark at the start is dropped."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.rstrip(b"\r\n")
            if line.strip():
                yield number, line


def read_tsv(path: Path, wanted: list[str]) -> Iterator[tuple[int, Values | BadRow]]:
    """Columns apart by tabs under a header line; quotes mean nothing."""
    header: list[str] | None = None
    for number, line in lines_of(path):
        try:
            cells = decoded(line).split("\t")
        except BadRow as error:
            if header is None:
                raise InputError(f"the header of {path} is {error}") from None
            yield number, error
            continue
        if header is None:
            header = checked_header(path, [cell.strip() for cell in cells], wanted)
        else:
            yield number, cells_by_name(header, cells)


def read_csv(path: Path, wanted: list[str]) -> Iterator[tuple[int, Values | BadRow]]:
    """Columns apart by commas under a header line; a quoted field may hold commas, quotes (doubled), lines."""
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] | None = None
        while True:
            first_line = reader.line_num + 1
            try:
                cells = next(reader)
                if any(has_surrogate(cell) for cell in cells):
                    raise BadRow("not UTF-8")
            except StopIteration:
                return
            except (csv.Error, BadRow) as error:
                if header is None:
                    raise InputError(f"the header of {path} cannot be read: {error}") from None
                yield first_line, error if isinstance(error, BadRow) else BadRow(f"malformed CSV ({error})")
                continue
            if not cells:
                continue
            if header is None:
                header = checked_header(path, [cell.strip() for cell in cells], wanted)
            else:
                yield first_line, cells_by_name(header, cells)


def read_jsonl(path: Path, wanted: list[str]) -> Iterator[tuple[int, Values | BadRow]]:
    """One JSON object a line."""
    for number, line in lines_of(path):
        try:
            value = json.loads(decoded(line))
            if not isinstance(value, dict):
                raise BadRow("not a JSON object")
            for name in wanted:
                if name not in value:
                    raise BadRow(f"no key '{name}'")
            yield number, value
        except BadRow as error:
            yield number, error
        except (json.JSONDecodeError, RecursionError):
            yield number, BadRow("not JSON")


READERS = {"tsv": read_tsv, "csv": read_csv, "jsonl": read_jsonl}


def checked_header(path: Path, header: list[str], wanted: list[str]) -> list[str]:
    for name in wanted:
        if header.count(name) != 1:
            what = "two columns" if name in header else "no column"
            raise InputError(
                f"{path} has {what} '{name}'; its header names: {', '.join(header)}. Choose with --text, "
                "--text2, --label, --client"
            )
    return header


def cells_by_name(header: list[str], cells: list[str]) -> Values | BadRow:
    if len(cells) != len(header):
        return BadRow(f"{len(cells)} columns instead of {len(header)}")
    return dict(zip(header, cells))


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


def row_of(values: Values, columns: Columns, split: int, where: str, line: int) -> Row:
    text = text_value(values[columns.text], "text")
    text2 = text_value(values[columns.text2], "second text") if columns.text2 else None
    label = name_value(values[columns.label], "label")
    client = name_value(values[columns.client], "client") if columns.client else None
    return Row(text, label, split, text2, client, where, line)


def read_tables(kind: str, files: dict[int, Path], columns: Columns) -> Source:
    """Rows of one file a split; kind is a key of READERS."""
    source = Source(origin=", ".join(path.name for path in files.values()), licence="not stated")
    source.splits = set(files)
    for split, path in files.items():
        if not path.is_file():
            raise InputError(f"no file {path}; give the {SPLIT_NAMES[split]} rows with --{SPLIT_NAMES[split]}")
        used = 0
        for number, values in READERS[kind](path, columns.wanted()):
            try:
                if isinstance(values, BadRow):
                    raise values
                source.rows.append(row_of(values, columns, split, path.name, number))
                used += 1
            except BadRow as error:
                source.refused.append(Refusal(path.name, number, str(error)))
        source.notes.append(f"{used} rows of {path}")
    source.input_sha256 = files_sha256(files.values())
    return source


# The Hugging Face hub


def load_hub(name: str) -> Any:
    """The splits of a hub data set, NAME or NAME:CONFIGURATION."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"'{name}' is taken for a data set of the Hugging Face hub, which needs the Python package datasets; "
            "install jobs/requirements.txt, or use wordnet, tsv, csv or jsonl"
        ) from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every attempt
    path, _, configuration = name.partition(":")
    try:
        return datasets.load_dataset(path, configuration or None)
    except Exception as error:  # the library raises its own kinds, those of the hub client and of the network
        raise InputError(
            f"could not load '{name}' from the Hugging Face hub ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}); check the name and "
            "the network, or use a file with tsv, csv or jsonl"
        ) from None


def hub_value(features: Any, name: str, value: Any) -> Any:
    """A class label's name in place of its number; a negative number means that there is none."""
    feature = features.get(name)
    if not hasattr(feature, "int2str") or not isinstance(value, int):
        return value
    return feature.int2str(value) if value >= 0 else None


def hub_splits(name: str, present: list[str], named: dict[int, str]) -> dict[int, str]:
    """What the data set calls train, validation and test: as named, else the usual names that it has.

    A usual name that was named for another split is not used twice.
    """
    splits = {s: named.get(s, usual) for s, usual in enumerate(SPLIT_NAMES) if s in named or usual in present}
    for split in {TRAIN: "", **splits}:
        if splits.get(split) not in present:
            option = SPLIT_NAMES[split]
            raise InputError(
                f"'{name}' has no split '{splits.get(split, option)}'; name one of {', '.join(present)} with "
                f"--{option}"
            )
    return {s: n for s, n in splits.items() if s in named or n not in named.values()}


def read_hub(name: str, named_splits: dict[int, str], columns: Columns, with_test: bool) -> Source:
    """Rows of a hub data set; named_splits says what it calls train, validation and test, where not just so."""
    loaded = load_hub(name)
    splits = hub_splits(name, list(loaded), named_splits)
    if not with_test:
        splits.pop(TEST, None)
    source = Source(origin=f"Hugging Face hub, {name}", splits=set(splits))
    digest = hashlib.sha256()
    for split, split_name in splits.items():
        part = loaded[split_name]
        for column in columns.wanted():
            if column not in part.features:
                raise InputError(f"'{name}' has no column '{column}'; it has: {', '.join(part.features)}")
        source.licence = source.licence or str(getattr(part.info, "license", "") or "")
        labelled = {c for c in (columns.label, columns.client) if c is not None}
        for number, values in enumerate(part.select_columns(columns.wanted()), 1):
            digest.update(json.dumps(values, sort_keys=True, default=str).encode())
            values = {k: hub_value(part.features, k, v) if k in labelled else v for k, v in values.items()}
            try:
                source.rows.append(row_of(values, columns, split, split_name, number))
            except BadRow as error:
                source.refused.append(Refusal(split_name, number, str(error)))
    source.input_sha256 = digest.hexdigest()
    source.licence = source.licence or "not stated"
    return source
