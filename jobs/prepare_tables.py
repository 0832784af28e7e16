"""Tables of text: TSV, CSV, JSONL. A reader gives (line number, values by column or the reason why there are none)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from prepare_rows import (
    SPLIT_NAMES, BadRow, Columns, InputError, RowMaker, Source, Values, files_sha256, has_surrogate,
)  # fmt: skip

Records = Iterator[tuple[int, Values | BadRow]]


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


def read_tsv(path: Path, wanted: list[str], header: list[str] | None = None) -> Records:
    """Columns apart by tabs under a header line, unless the header is given; quotes mean nothing."""
    if header is not None:
        checked_header(path, header, wanted)
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


def read_csv(path: Path, wanted: list[str], header: list[str] | None = None) -> Records:
    """Columns apart by commas under a header line, unless the header is given.

    A quoted field may hold commas, quotes (doubled) and lines.
    """
    if header is not None:
        checked_header(path, header, wanted)
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
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


def read_jsonl(path: Path, wanted: list[str]) -> Records:
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
            if len(header) == 1 and "\t" in header[0]:
                raise InputError(f"{path} has one column, whose name holds tabs: prepare it as tsv")
            raise InputError(
                f"{path} has {what} '{name}'; its header names: {', '.join(header)}. Choose with --text, "
                "--text2, --label, --target, --client, or leave a file without labels out"
            )
    return header


def cells_by_name(header: list[str], cells: list[str]) -> Values | BadRow:
    if len(cells) != len(header):
        return BadRow(f"{len(cells)} columns instead of {len(header)}")
    return dict(zip(header, cells))


def check_file(path: Path, split: int, folder: bool = False) -> None:
    if not (path.is_dir() if folder else path.is_file()):
        what = "folder" if folder else "file"
        raise InputError(f"no {what} {path}; give the {SPLIT_NAMES[split]} rows with --{SPLIT_NAMES[split]}")


def read_tables(kind: str, files: dict[int, Path], columns: Columns, make: RowMaker) -> Source:
    """Rows of one file a split; kind is a key of READERS."""
    source = Source(origin=", ".join(path.name for path in files.values()), licence="not stated")
    source.splits = set(files)
    for split, path in files.items():
        check_file(path, split)
        used = source.take(READERS[kind](path, columns.wanted()), make, columns, split, path.name)
        source.notes.append(f"{used} rows of {path}")
    source.input_sha256 = files_sha256(files.values())
    return source
