"""How the commands of this package end, and what those that score answers write."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from .loader import FormatError

BAD_USE, BAD_INPUT = 2, 3


def ended(work: Callable[[], None], what: str) -> int:
    """Does a command's work; its exit code: 0, 2 where `what` ("the report") cannot be written, 3 for a bad file."""
    try:
        work()
    except FormatError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"error: {what} cannot be written: {error}; choose another --output", file=sys.stderr)
        return BAD_USE
    return 0


def progress(text: str) -> None:
    """A line on what is being done, to stderr: stdout has the result alone."""
    print(text, file=sys.stderr, flush=True)


def write_scores(directory, name: str, page: str, values: dict) -> None:
    """NAME.md and NAME.json in a directory, which is made."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for ending, content in (("md", page), ("json", json.dumps(values, indent=2) + "\n")):
        (folder / f"{name}.{ending}").write_text(content, encoding="utf-8")
