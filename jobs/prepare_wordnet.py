"""The built-in data: definitions of WordNet's nouns, to tell which lexicographer file a noun is in."""

from __future__ import annotations

import re
from pathlib import Path

from prepare_rows import TRAIN, BadRow, InputError, Refusal, Row, Source, files_sha256, split_off_test

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
