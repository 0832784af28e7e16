"""The command line of prepare.py."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

from prepare_file import FORMAT_VERSION, format_version
from prepare_known import FOLDER, KNOWN
from prepare_rows import CLASSIFICATION, GENERATION, REGRESSION, SPAN, SPLIT_NAMES, UsageError
from prepare_tables import READERS

ROOT = Path(__file__).resolve().parent.parent

DEFAULT_MODEL = "models/minilm"
DEFAULT_LENGTH = {CLASSIFICATION: 128, REGRESSION: 128, SPAN: 384, GENERATION: 512}
DEFAULT_STRIDE = 128
WORDNET_DIRECTORY = "/usr/share/wordnet"
BUILT_IN = ("wordnet", *READERS, *KNOWN)
HELP = """
DATASET is one of
  wordnet           definitions of WordNet's nouns, to tell which lexicographer file a noun is in
  tsv, csv, jsonl   files of yours: --train FILE, perhaps --validation FILE and --test FILE; TSV and CSV have a
                    header line; quotes in TSV are part of the text. --task says what is learned:
                    classification (--text, perhaps --text2, and --label), regression (the same, --label a number),
                    generation (--text the prompt and --target what is written after it, perhaps --label a category)
  a known data set  from the Hugging Face hub, or with --train FILE and --test FILE from its own files:
{known}
  anything else     a data set of the Hugging Face hub, NAME or NAME:CONFIGURATION; --train, --validation and
                    --test then name its splits. A NAME close to one of the above needs its owner: OWNER/NAME

GLUE's test files have no labels: its development files are the test rows. --client names a column, for squad also
title, for e2e a slot such as eatType.

examples
  prepare.py wordnet
  prepare.py tsv --train train.tsv --test dev.tsv --text sentence --output data/mine.h5
  prepare.py jsonl --train posts.jsonl --client author --output data/posts.h5
  prepare.py glue/mnli --client genre --model models/roberta-base --output data/mnli.h5
  prepare.py squad --train train-v1.1.json --test dev-v1.1.json --output data/squad.h5
  prepare.py e2e --train trainset.csv --test testset_w_refs.csv --model models/gpt2 --output data/e2e.h5
  prepare.py csv --task generation --train mine.csv --text question --target answer --model models/gpt2 \\
    --output data/answers.h5
  prepare.py --describe data/wordnet.h5

exit codes: 0 done, 2 the command line is wrong, 3 the input cannot be used
"""


def known_lines() -> str:
    """The known data sets with their tasks and what their files look like."""
    return "\n".join(
        f"    {name:<14}{known.task:<15} {' or '.join(layout.look for layout in known.layouts.values())}"
        for name, known in KNOWN.items()
    )


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


def make_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prepare.py",
        description=description,
        epilog=HELP.format(known=known_lines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("dataset", metavar="DATASET", nargs="?", help="what to prepare, see below")
    add("--model", metavar="DIR_OR_NAME", default=DEFAULT_MODEL, help="model whose tokenizer is used [%(default)s]")
    add("--output", metavar="FILE.h5", help="file to write [data/wordnet.h5 for wordnet]")
    add("--overwrite", action="store_true", help="replace the file to write where it exists")
    add("--update", action="store_true", help="replace the file to write where it exists in an older format, and leave "
        "it where its format is this program's")  # fmt: skip
    add("--max-length", metavar="N", type=length, help="most tokens, special ones included [128; "
        f"{DEFAULT_LENGTH[SPAN]} for squad, {DEFAULT_LENGTH[GENERATION]} for generation]")  # fmt: skip
    add("--stride", metavar="N", type=length, help="squad: tokens from a window of a long context to the next "
        f"[{DEFAULT_STRIDE}]")  # fmt: skip
    add("--task", choices=(CLASSIFICATION, REGRESSION, GENERATION), help="what is learned [classification]")
    add("--train", metavar="FILE", help="training rows; 20newsgroups: a folder")
    add("--validation", metavar="FILE", help="validation rows")
    add("--test", metavar="FILE", help="test rows; without: a share of the training rows")
    add("--text", metavar="COLUMN", help="column of the text [text]")
    add("--text2", metavar="COLUMN", help="column of a second text, for pairs")
    add("--label", metavar="COLUMN", help="column of the label or the value [label]; for e2e the slot that is the "
        "category [eatType]")  # fmt: skip
    add("--target", metavar="COLUMN", help="generation: column of the text to write [target]")
    add("--client", metavar="COLUMN", help="column (squad: title; e2e: a slot) that names the client")
    add("--test-share", metavar="S", type=share, help="share of every label for the test split; "
        "all rows of a context or prompt go to one side [0.2]")
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
    if name.lower().startswith("glue/"):
        raise UsageError(f"no GLUE task '{name}'; there are {', '.join(n for n in KNOWN if n.startswith('glue/'))}")
    if path.is_file():
        kind = path.suffix.removeprefix(".").lower()
        example = kind if kind in READERS else "tsv"
        raise UsageError(f"DATASET {name} is a file: name its kind first, such as {example} --train {name}")
    word = name.partition(":")[0].lower()
    if f"glue/{word}" in KNOWN:
        raise UsageError(f"no source '{name}': did you mean glue/{word}? A hub data set is written OWNER/NAME")
    near = difflib.get_close_matches(word, BUILT_IN, n=1, cutoff=0.75)
    near += [source for source in BUILT_IN if sorted(source) == sorted(word)]
    if near and "/" not in name:
        raise UsageError(
            f"no source '{name}': did you mean {near[0]}? A hub data set whose name is that close is written OWNER/NAME"
        )


def output_path(options: argparse.Namespace) -> Path:
    return Path(options.output) if options.output else ROOT / "data" / "wordnet.h5"


def task_of(options: argparse.Namespace) -> str:
    known = KNOWN.get(options.dataset)
    return known.task if known else options.task or CLASSIFICATION


def meaningless(options: argparse.Namespace) -> list[str]:
    """Options that mean nothing for this data set and task."""
    dataset, task = options.dataset, task_of(options)
    wordnet, known = dataset == "wordnet", dataset in KNOWN
    names = [] if wordnet else ["wordnet_dir"]
    names += [] if task == SPAN else ["stride"]
    names += ["text", "text2", "target", "task"] if wordnet or known else []
    names += [*SPLIT_NAMES, "client"] if wordnet else []
    names += ["label"] if wordnet or known and dataset != "e2e" else []
    names += ["text2"] if task == GENERATION else ["target"]
    return [name for name in names if getattr(options, name) is not None]


def check_usage(options: argparse.Namespace) -> None:
    """Throws UsageError for options that do not fit together, and for an output that exists."""
    if options.dataset is None:
        raise UsageError("no DATASET: name wordnet, tsv, csv, jsonl, a known or hub data set, or use --describe FILE")
    check_source(options.dataset)
    task = task_of(options)
    for name in meaningless(options):
        of = options.dataset if options.dataset in BUILT_IN and options.dataset not in READERS else f"--task {task}"
        other = ", or give --task generation, which takes it" if name == "target" and of.startswith("--task") else ""
        raise UsageError(f"--{name.replace('_', '-')} means nothing for {of}; leave it out{other}")
    if options.dataset != "wordnet" and options.output is None:
        raise UsageError(f"no --output for {options.dataset}: name the file to write, such as data/mine.h5")
    if options.train is None and (options.dataset in READERS or options.dataset in KNOWN and named_files(options)):
        folder = options.dataset in KNOWN and FOLDER in KNOWN[options.dataset].layouts
        raise UsageError(
            f"no --train for {options.dataset}: name the {'folder' if folder else 'file'} of the training rows"
        )
    if options.test is not None and options.test_share is not None:
        raise UsageError("--test and --test-share exclude each other: leave one out")
    if options.update and options.overwrite:
        raise UsageError("--update and --overwrite exclude each other: leave one out")
    output = output_path(options)
    if output.is_dir():
        raise UsageError(f"--output {output} is a directory; name a file")
    version = format_version(output) if options.update else None
    if output.exists() and not options.overwrite and (version is None or version > FORMAT_VERSION):
        raise UsageError(f"{output} exists: replace it with --overwrite, or name another file with --output")


def named_files(options: argparse.Namespace) -> dict[int, str]:
    """What --train, --validation and --test name, by split."""
    named = {split: getattr(options, name) for split, name in enumerate(SPLIT_NAMES)}
    return {split: value for split, value in named.items() if value is not None}
