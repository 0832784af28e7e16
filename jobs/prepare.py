#!/usr/bin/env python3
"""Turns text into dataset.h5, the token ids that pf2lora trains on: classes, values, answers or texts to write."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

try:
    from prepare_describe import describe
    from prepare_file import FORMAT_VERSION, format_version, label_warnings, numbered, text_notes, write_dataset
    from prepare_hub import read_hub
    from prepare_known import KNOWN, read_known
    from prepare_options import (
        DEFAULT_LENGTH, DEFAULT_MODEL, DEFAULT_STRIDE, ROOT, WORDNET_DIRECTORY, check_usage, make_parser, named_files,
        output_path, task_of,
    )  # fmt: skip
    from prepare_rows import (
        CLASSIFICATION, GENERATION, REGRESSION, ROWS_OF, SPAN, SPLIT_NAMES, TEST, TRAIN, Columns, InputError, Refusal,
        Row, Source, UsageError, files_sha256, split_off_test, split_off_test_texts,
    )  # fmt: skip
    from prepare_spans import tokenize_spans
    from prepare_tables import READERS, read_tables
    from prepare_targets import tokenize_targets
    from prepare_tokens import Model, Tokens, load_model, tokenize
    from prepare_wordnet import read_wordnet
    from tokenizers import Tokenizer
except ImportError as error:
    sys.exit(f"prepare.py: error: {error}; jobs/setup.sh installs it: run as .venv/bin/python jobs/prepare.py")

REFUSALS_SHOWN = 5
METRICS = {CLASSIFICATION: "accuracy", REGRESSION: "pearson,spearman", GENERATION: "bleu,rouge_l"}


def columns_of(options: argparse.Namespace) -> Columns:
    if options.dataset in KNOWN:
        return KNOWN[options.dataset].columns
    target = (options.target or "target") if task_of(options) == GENERATION else None
    label = options.label or (None if target else "label")
    text = "gloss" if options.dataset == "wordnet" else options.text or "text"
    return Columns(text, label, options.text2, options.client, target)


def read_source(options: argparse.Namespace) -> Source:
    test_share = options.test_share or 0.2
    if options.dataset == "wordnet":
        return read_wordnet(Path(options.wordnet_dir or WORDNET_DIRECTORY), test_share, options.seed)
    named, task, columns = named_files(options), task_of(options), columns_of(options)
    files = {split: Path(name) for split, name in named.items()}
    if options.dataset in KNOWN:
        source = read_known(options.dataset, files, options.client, options.label, options.test_share is None)
    elif options.dataset in READERS:
        source = read_tables(options.dataset, files, columns, ROWS_OF[task])
    else:
        source = read_hub(options.dataset, named, columns, ROWS_OF[task], with_test=options.test_share is None)
    if TEST not in source.splits:
        source.rows = split_training_rows(source.rows, task, test_share, options.seed)
    return source


def split_training_rows(rows: list[Row], task: str, test_share: float, seed: int) -> list[Row]:
    """Moves a share of the training rows to the test split; validation rows stay."""
    training = [row for row in rows if row.split == TRAIN]
    if task in (SPAN, GENERATION):
        training = split_off_test_texts(training, test_share, seed)
    else:
        training = split_off_test(training, test_share, seed, by_label=task == CLASSIFICATION)
    return training + [row for row in rows if row.split != TRAIN]


def chosen_length(options: argparse.Namespace, model: Model) -> int:
    """--max-length within what the model has positions for."""
    task, pairs = task_of(options), columns_of(options).text2 is not None
    fewest = model.tokenizer.num_special_tokens_to_add(pairs) + (2 if pairs else 1)
    if task == GENERATION:
        fewest = 4 + (model.begin is not None)
    wanted = options.max_length or min(DEFAULT_LENGTH[task], model.positions)
    if not fewest <= wanted <= model.positions:
        raise UsageError(
            f"--max-length {wanted} does not fit {model.name}: it takes {fewest} to {model.positions} tokens"
        )
    return wanted


def report_refused(refused: list[Refusal], strict: bool) -> None:
    """Says how many rows were refused and why; an InputError when strict."""
    reasons = Counter(refusal.reason for refusal in refused)
    for reason, count in reasons.most_common():
        lines = [f"{r.where}:{r.line}" for r in refused if r.reason == reason][:REFUSALS_SHOWN]
        more = ", ..." if count > len(lines) else ""
        print(f"prepare.py: rows refused: {count}, {reason} ({', '.join(lines)}{more})", file=sys.stderr)
    if refused and strict:
        raise InputError(f"rows were refused ({len(refused)}) and --strict was given; mend them or leave --strict out")


def check_rows(rows: list[Row], asked: dict[int, str], task: str) -> None:
    """Throws InputError when a split that must have rows has none, or there is nothing to tell apart."""
    for split in sorted({TRAIN, TEST, *asked}):
        if not any(row.split == split for row in rows):
            raise InputError(
                f"no row is left for the {SPLIT_NAMES[split]} split; the lines above say what was read and refused"
            )
    labels = {str(row.label) for row in rows}
    if task == CLASSIFICATION and len(labels) < 2:
        raise InputError(f"every row has the label '{labels.pop()}'; two classes are the least; see --label")


def attributes_of(options: argparse.Namespace, source: Source, model: Model, max_length: int) -> dict[str, str | int]:
    by_default = Path(options.output).stem if options.dataset in READERS else options.dataset
    known = KNOWN.get(options.dataset)
    return {
        "name": options.name or by_default,
        "task": task_of(options),
        "metrics": known.metrics if known else METRICS[task_of(options)],
        "source": options.source or source.origin,
        "licence": options.licence or source.licence,
        "text_columns": columns_of(options).texts(),
        "tokenizer": options.model,
        "tokenizer_sha256": model.tokenizer_sha256,
        "vocabulary_size": model.vocabulary_size,
        "max_length": max_length,
        "input_sha256": source.input_sha256,
        "created_utc": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": shlex.join(["jobs/prepare.py", *sys.argv[1:]]),
    }


def model_folder(name: str) -> Path:
    """Where the model is: the default one beside jobs/, any other from the working directory."""
    return ROOT / name if name == DEFAULT_MODEL and not Path(name).is_dir() else Path(name)


def encode(options: argparse.Namespace, model: Model, rows: list[Row], max_length: int) -> tuple[
    Tokens, list[Row], list[Refusal]
]:  # fmt: skip
    task = task_of(options)
    if task == SPAN:
        return tokenize_spans(model, rows, max_length, options.stride or DEFAULT_STRIDE)
    return tokenize_targets(model, rows, max_length) if task == GENERATION else tokenize(model, rows, max_length)


def prepare(options: argparse.Namespace) -> None:
    check_usage(options)
    if options.update and format_version(output_path(options)) == FORMAT_VERSION:
        print(f"prepare.py: {output_path(options)}: up to date, and left as it is")
        return
    model = load_model(options.model, model_folder(options.model))
    max_length, task = chosen_length(options, model), task_of(options)
    source = read_source(options)
    tokens, rows, refused = encode(options, model, source.rows, max_length)
    for note in source.notes:
        print(f"prepare.py: {note}")
    report_refused(source.refused + refused, options.strict)
    check_rows(rows, named_files(options), task)
    for note in [*text_notes(list(dict.fromkeys(rows))), *tokens.notes]:
        print(f"prepare.py: {note}")
    for warning in label_warnings(rows) if task == CLASSIFICATION else []:
        print(f"prepare.py: warning: {warning}", file=sys.stderr)
    output = output_path(options)
    order = KNOWN[options.dataset].classes if options.dataset in KNOWN else ()
    classes = numbered((row.label for row in rows), order)
    write_dataset(output, rows, tokens, attributes_of(options, source, model, max_length), classes)
    counts = Counter(SPLIT_NAMES[row.split] for row in rows)
    told = ", ".join(f"{counts[name]} {name}" for name in SPLIT_NAMES if counts[name])
    kinds = "1 class" if len(classes.names) == 1 else f"{len(classes.names)} classes"
    print(f"prepare.py: {output}: {task}, {told} rows, {kinds}, {len(tokens.ids)} tokens")


def find_tokenizer(name: str, sha256: str) -> Tokenizer | None:
    """The tokenizer that a file was made with, when it is at hand and still the same."""
    path = model_folder(name) / "tokenizer.json"
    if path.is_file() and files_sha256([path]) == sha256:
        return Tokenizer.from_file(str(path))
    return None


def main() -> int:
    parser = make_parser(__doc__)
    options = parser.parse_args()
    try:
        if options.describe is not None:
            print(describe(Path(options.describe), find_tokenizer))
        else:
            prepare(options)
    except UsageError as error:
        parser.error(str(error))
    except InputError as error:
        print(f"prepare.py: error: {error}", file=sys.stderr)
        return 3
    except BrokenPipeError:
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
