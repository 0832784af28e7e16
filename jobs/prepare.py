#!/usr/bin/env python3
"""Turns labelled text into dataset.h5, the token ids that pf2lora trains on."""
from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
try:
    from prepare_file import describe, label_notes, label_warnings, numbered, write_dataset
    from prepare_sources import (
        READERS, SPLIT_NAMES, TEST, TRAIN, VALIDATION, Columns, InputError, Refusal, Row, Source, UsageError,
        files_sha256, read_hub, read_tables, read_wordnet, split_off_test,
    )  # fmt: skip
    from prepare_tokens import Model, load_model, tokenize
    from tokenizers import Tokenizer
except ImportError as error:
    sys.exit(f"prepare.py: error: {error}; jobs/setup.sh installs it: run as .venv/bin/python jobs/prepare.py")

DEFAULT_MODEL = "models/minilm"
DEFAULT_LENGTH = 128
WORDNET_DIRECTORY = "/usr/share/wordnet"
BUILT_IN = ("wordnet", *READERS)
REFUSALS_SHOWN = 5
HELP = f"""
DATASET is one of
  wordnet           definitions of WordNet's nouns, to tell which lexicographer file a noun is in
  tsv, csv, jsonl   files of yours: --train FILE, perhaps --validation FILE and --test FILE; TSV and CSV have a
                    header line; quotes in TSV are part of the text
  anything else     a data set of the Hugging Face hub, NAME or NAME:CONFIGURATION; --train, --validation and
                    --test then name its splits. A NAME close to one of the above needs its owner: OWNER/NAME

examples
  prepare.py wordnet
  prepare.py tsv --train train.tsv --test dev.tsv --text sentence --output data/sst2.h5
  prepare.py jsonl --train posts.jsonl --client author --output data/posts.h5
  prepare.py glue:qnli --test validation --text question --text2 sentence --output data/qnli.h5
  prepare.py --describe data/wordnet.h5

exit codes: 0 done, 2 the command line is wrong, 3 the input cannot be used
"""


def share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def length(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of tokens")
    return value


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prepare.py",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("dataset", metavar="DATASET", nargs="?", help="what to prepare, see below")
    add("--model", metavar="DIR_OR_NAME", default=DEFAULT_MODEL, help="model whose tokenizer is used [%(default)s]")
    add("--output", metavar="FILE.h5", help="file to write [data/wordnet.h5 for wordnet]")
    add("--overwrite", action="store_true", help="replace the file to write where it exists")
    add("--max-length", metavar="N", type=length, help=f"most tokens, special ones included [{DEFAULT_LENGTH}]")
    add("--train", metavar="FILE", help="training rows")
    add("--validation", metavar="FILE", help="validation rows")
    add("--test", metavar="FILE", help="test rows; without: a share of the training rows")
    add("--text", metavar="COLUMN", help="column of the text [text]")
    add("--text2", metavar="COLUMN", help="column of a second text, for pairs")
    add("--label", metavar="COLUMN", help="column of the label [label]")
    add("--client", metavar="COLUMN", help="column that names the client")
    add("--test-share", metavar="S", type=share, help="share of every label for the test split [0.2]")
    add("--seed", metavar="N", type=int, default=1, help="seed of the test split [%(default)s]")
    add("--name", help="name of the data set in the file [wordnet, the hub name, or that of the file]")
    add("--source", help="where the data comes from, for the record")
    add("--licence", help="licence of the data, for the record")
    add("--wordnet-dir", metavar="DIR", help=f"folder of data.noun [{WORDNET_DIRECTORY}]")
    add("--strict", action="store_true", help="refused rows are an error")
    add("--describe", metavar="FILE.h5", help="print what a prepared file holds, and do nothing else")
    return parser


def check_source(name: str) -> None:
    """Throws UsageError for what looks like a built-in source or a file and not like a data set of the hub."""
    path = Path(name)
    if name in BUILT_IN or path.is_dir():
        return
    if path.is_file():
        kind = path.suffix.removeprefix(".").lower()
        example = kind if kind in READERS else "tsv"
        raise UsageError(f"DATASET {name} is a file: name its kind first, such as {example} --train {name}")
    word = name.partition(":")[0].lower()
    near = difflib.get_close_matches(word, BUILT_IN, n=1, cutoff=0.75)
    near += [source for source in BUILT_IN if sorted(source) == sorted(word)]
    if near and "/" not in name:
        raise UsageError(
            f"no source '{name}': did you mean {near[0]}? A hub data set whose name is that close is written OWNER/NAME"
        )


def output_path(options: argparse.Namespace) -> Path:
    return Path(options.output) if options.output else ROOT / "data" / "wordnet.h5"


def check_usage(options: argparse.Namespace) -> None:
    """Throws UsageError for options that do not fit together, and for an output that exists."""
    if options.dataset is None:
        raise UsageError("no DATASET: name wordnet, tsv, csv, jsonl or a hub data set, or use --describe FILE")
    check_source(options.dataset)
    columns = ("text", "text2", "label", "client")
    if options.dataset == "wordnet":
        for name in (*SPLIT_NAMES, *columns):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} means nothing for wordnet; leave it out")
    elif options.wordnet_dir is not None:
        raise UsageError(f"--wordnet-dir means nothing for {options.dataset}; leave it out")
    elif options.output is None:
        raise UsageError(f"no --output for {options.dataset}: name the file to write, such as data/mine.h5")
    if options.dataset in READERS and options.train is None:
        raise UsageError(f"no --train for {options.dataset}: name the file of the training rows")
    if options.test is not None and options.test_share is not None:
        raise UsageError("--test and --test-share exclude each other: leave one out")
    output = output_path(options)
    if output.is_dir():
        raise UsageError(f"--output {output} is a directory; name a file")
    if output.exists() and not options.overwrite:
        raise UsageError(f"{output} exists: replace it with --overwrite, or name another file with --output")


def named_splits(options: argparse.Namespace) -> dict[int, str]:
    named = {TRAIN: options.train, VALIDATION: options.validation, TEST: options.test}
    return {split: value for split, value in named.items() if value is not None}


def read_source(options: argparse.Namespace) -> Source:
    test_share = options.test_share or 0.2
    if options.dataset == "wordnet":
        return read_wordnet(Path(options.wordnet_dir or WORDNET_DIRECTORY), test_share, options.seed)
    columns = Columns(options.text or "text", options.label or "label", options.text2, options.client)
    splits = named_splits(options)
    if options.dataset in READERS:
        files = {split: Path(name) for split, name in splits.items()}
        source = read_tables(options.dataset, files, columns)
    else:
        source = read_hub(options.dataset, splits, columns, with_test=options.test_share is None)
    if TEST not in source.splits:
        source.rows = split_training_rows(source.rows, test_share, options.seed)
    return source


def split_training_rows(rows: list[Row], test_share: float, seed: int) -> list[Row]:
    """Moves a share of the training rows to the test split; validation rows stay."""
    training = [row for row in rows if row.split == TRAIN]
    return split_off_test(training, test_share, seed) + [row for row in rows if row.split != TRAIN]


def chosen_length(options: argparse.Namespace, model: Model, pairs: bool) -> int:
    """--max-length within what the model has positions for."""
    fewest = model.tokenizer.num_special_tokens_to_add(pairs) + (2 if pairs else 1)
    wanted = options.max_length or min(DEFAULT_LENGTH, model.positions)
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


def check_rows(rows: list[Row], asked: dict[int, str]) -> None:
    """Throws InputError when a split that must have rows has none, or there is nothing to tell apart."""
    for split in sorted({TRAIN, TEST, *asked}):
        if not any(row.split == split for row in rows):
            raise InputError(
                f"no row is left for the {SPLIT_NAMES[split]} split; the lines above say what was read and refused"
            )
    labels = {str(row.label) for row in rows}
    if len(labels) < 2:
        raise InputError(f"every row has the label '{labels.pop()}'; two classes are the least; see --label")


def attributes_of(options: argparse.Namespace, source: Source, model: Model, max_length: int) -> dict[str, str | int]:
    by_default = "wordnet" if options.dataset == "wordnet" else options.dataset
    if options.dataset in READERS:
        by_default = Path(options.output).stem
    text_columns = "gloss" if options.dataset == "wordnet" else ",".join(
        name for name in (options.text or "text", options.text2) if name
    )  # fmt: skip
    return {
        "name": options.name or by_default,
        "source": options.source or source.origin,
        "licence": options.licence or source.licence,
        "text_columns": text_columns,
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


def prepare(options: argparse.Namespace) -> None:
    check_usage(options)
    model = load_model(options.model, model_folder(options.model))
    max_length = chosen_length(options, model, options.text2 is not None)
    source = read_source(options)
    tokens, rows, empty = tokenize(model, source.rows, max_length)
    for note in source.notes:
        print(f"prepare.py: {note}")
    report_refused(source.refused + empty, options.strict)
    check_rows(rows, named_splits(options))
    for note in label_notes(rows):
        print(f"prepare.py: {note}")
    for warning in label_warnings(rows):
        print(f"prepare.py: warning: {warning}", file=sys.stderr)
    if tokens.truncated:
        print(f"prepare.py: rows cut to {max_length} tokens: {tokens.truncated}; see --max-length")
    if options.text2 is not None:
        print("prepare.py: token types of pairs are not stored: a model sees type 0 in both texts")
    output = output_path(options)
    write_dataset(output, rows, tokens, attributes_of(options, source, model, max_length))
    counts = Counter(SPLIT_NAMES[row.split] for row in rows)
    told = ", ".join(f"{counts[name]} {name}" for name in SPLIT_NAMES if counts[name])
    classes = len(numbered(row.label for row in rows).names)
    print(f"prepare.py: {output}: {told} rows, {classes} classes, {len(tokens.ids)} tokens")


def find_tokenizer(name: str, sha256: str) -> Tokenizer | None:
    """The tokenizer that a file was made with, when it is at hand and still the same."""
    path = model_folder(name) / "tokenizer.json"
    if path.is_file() and files_sha256([path]) == sha256:
        return Tokenizer.from_file(str(path))
    return None


def main() -> int:
    parser = make_parser()
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
