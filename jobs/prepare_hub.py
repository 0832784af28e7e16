"""The Hugging Face hub, through its package datasets."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any

from prepare_rows import SPLIT_NAMES, TEST, TRAIN, Columns, InputError, RowMaker, Source, Values


def load_hub(name: str, options: dict[str, str]) -> Any:
    """The splits of a hub data set, NAME or NAME:CONFIGURATION; options go to datasets.load_dataset."""
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
        return datasets.load_dataset(path, configuration or None, **options)
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

    A usual name that was named for another split is not used twice; dev is another name of validation.
    """
    if "validation" not in present and "dev" in present:
        named = {split: "dev" if name == "validation" else name for split, name in named.items()}
    splits = {s: named.get(s, usual) for s, usual in enumerate(SPLIT_NAMES) if s in named or usual in present}
    for split in {TRAIN: "", **splits}:
        if splits.get(split) not in present:
            option = SPLIT_NAMES[split]
            raise InputError(
                f"'{name}' has no split '{splits.get(split, option)}'; name one of {', '.join(present)} with --{option}"
            )
    return {s: n for s, n in splits.items() if s in named or n not in named.values()}


def read_hub(
    name: str, named_splits: dict[int, str], columns: Columns, make: RowMaker, with_test: bool,
    options: dict[str, str] | None = None,
) -> Source:  # fmt: skip
    """Rows of a hub data set; named_splits says what it calls train, validation and test, where not just so."""
    loaded = load_hub(name, options or {})
    splits = hub_splits(name, list(loaded), named_splits)
    if not with_test:
        splits.pop(TEST, None)
    source = Source(origin=f"Hugging Face hub, {name}", splits=set(splits))
    digest = hashlib.sha256()
    labelled = {c for c in (columns.label, columns.client) if c is not None}

    def records(part: Any) -> Iterator[tuple[int, Values]]:
        for number, values in enumerate(part.select_columns(columns.wanted()), 1):
            digest.update(json.dumps(values, sort_keys=True, default=str).encode())
            yield number, {k: hub_value(part.features, k, v) if k in labelled else v for k, v in values.items()}

    for split, split_name in splits.items():
        part = loaded[split_name]
        for column in columns.wanted():
            if column not in part.features:
                raise InputError(f"'{name}' has no column '{column}'; it has: {', '.join(part.features)}")
        source.licence = source.licence or str(getattr(part.info, "license", "") or "")
        source.take(records(part), make, columns, split, split_name)
    source.input_sha256 = digest.hexdigest()
    source.licence = source.licence or "not stated"
    return source
