"""Data sets that are known by name: where the hub has them, what their own files look like, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from prepare_hub import read_hub
from prepare_layouts import (
    ANSWERED, UNANSWERABLE, described, postings, questioned, read_ag_news_csv, read_cola, read_glue, read_newsgroups,
    read_squad, read_web_nlg, verbalised,
)  # fmt: skip
from prepare_rows import (
    CLASSIFICATION, GENERATION, REGRESSION, SPAN, TEST, TRAIN, VALIDATION, BadRow, Columns, InputError, Place, Row,
    RowMaker, Source, Values, classified, files_sha256, valued,
)  # fmt: skip
from prepare_tables import Records, check_file, read_csv, read_tsv

FOLDER = "folder"


@dataclass(frozen=True)
class Layout:
    """How the data set's own files look: columns are what their reader gives, when not those of the hub."""

    read: Callable[[Path, list[str]], Records]
    look: str
    columns: Columns | None = None


@dataclass(frozen=True)
class Known:
    task: str
    hub: str  # NAME or NAME:CONFIGURATION
    columns: Columns
    layouts: dict[str, Layout]  # by the end of the file's name
    metrics: str
    licence: str
    make: RowMaker = classified
    splits: dict[int, str] = field(default_factory=lambda: {TRAIN: "train", TEST: "test"})  # of the hub
    hub_options: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()  # in the data set's own order; its files may hold their numbers
    first_class: int = 0


def glue(
    configuration: str, texts: tuple[str, ...], classes: tuple[str, ...], metrics: str, licence: str,
    files: Columns | None = None, test: str = "validation", look: str = "", read: Callable[..., Records] = read_glue,
) -> Known:  # fmt: skip
    columns = Columns(texts[0], "label", *texts[1:])
    of_files = files or columns
    header = look or "header with " + ", ".join(name for name in of_files.wanted())
    return Known(
        CLASSIFICATION if classes else REGRESSION, f"nyu-mll/glue:{configuration}", columns,
        {"tsv": Layout(read, f"TSV, {header}", of_files)}, metrics, licence, classified if classes else valued,
        {TRAIN: "train", TEST: test}, classes=classes,
    )  # fmt: skip


PAIR = ("sentence1", "sentence2")
PREMISE = ("premise", "hypothesis")
ENTAILED = ("entailment", "not_entailment")
THREE_WAYS = ("entailment", "neutral", "contradiction")
MNLI = Columns("sentence1", "gold_label", "sentence2")
MNLI_LICENCE = "OANC, CC BY-SA 3.0, CC BY 3.0 and others, by source"
SCRIPTED = {"revision": "refs/convert/parquet"}  # the hub's own conversion of data sets that are Python scripts

SQUAD = Known(
    SPAN, "rajpurkar/squad",
    Columns("question", text2="context", also=("id", "answers")), {"json": Layout(read_squad, "SQuAD's JSON")},
    "exact_match,f1", "CC BY-SA 4.0", questioned, {TRAIN: "train", TEST: "validation"},
    classes=(ANSWERED, UNANSWERABLE),
)  # fmt: skip

KNOWN = {
    "glue/cola": glue("cola", ("sentence",), ("unacceptable", "acceptable"), "mcc,accuracy", "not stated",
                      look="no header: source, label, mark, sentence", read=read_cola),
    "glue/sst2": glue("sst2", ("sentence",), ("negative", "positive"), "accuracy", "not stated; research use"),
    "glue/mrpc": glue("mrpc", PAIR, ("not_equivalent", "equivalent"), "f1,accuracy", "Microsoft's; research use",
                      Columns("#1 String", "Quality", "#2 String")),
    "glue/qqp": glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), "f1,accuracy",
                     "Quora's; non-commercial use", Columns("question1", "is_duplicate", "question2")),
    "glue/stsb": glue("stsb", PAIR, (), "pearson,spearman", "by source, see the STS benchmark",
                      Columns("sentence1", "score", "sentence2")),
    "glue/mnli": glue("mnli", PREMISE, THREE_WAYS, "accuracy", MNLI_LICENCE, MNLI, "validation_matched"),
    "glue/mnli-mm": glue("mnli", PREMISE, THREE_WAYS, "accuracy", MNLI_LICENCE, MNLI, "validation_mismatched"),
    "glue/qnli": glue("qnli", ("question", "sentence"), ENTAILED, "accuracy", "CC BY-SA 4.0"),
    "glue/rte": glue("rte", PAIR, ENTAILED, "accuracy", "not stated"),
    "glue/wnli": glue("wnli", PAIR, ENTAILED[::-1], "accuracy", "CC BY 4.0"),
    "squad": SQUAD,
    "squad_v2": replace(SQUAD, hub="rajpurkar/squad_v2"),
    "e2e": Known(
        GENERATION, "tuetschek/e2e_nlg",
        Columns("meaning_representation", "eatType", target="human_reference", inside=True),
        {"csv": Layout(read_csv, "CSV, header with mr, ref", Columns("mr", "eatType", target="ref", inside=True))},
        "bleu,nist,meteor,rouge_l,cider", "CC BY-SA 4.0", described,
        {TRAIN: "train", VALIDATION: "validation", TEST: "test"}, SCRIPTED,
    ),
    "web_nlg": Known(
        GENERATION, "webnlg-challenge/web_nlg",
        Columns("modified_triple_sets", "category", also=("lex",)),
        {"json": Layout(read_web_nlg, "WebNLG's JSON")}, "bleu,meteor,ter", "CC BY-NC-SA 4.0", verbalised,
        {TRAIN: "train", VALIDATION: "validation", TEST: "test"}, {**SCRIPTED, "data_dir": "webnlg_challenge_2017"},
    ),
    "ag_news": Known(
        CLASSIFICATION, "fancyzhang/ag_news", Columns("text", "label"),
        {"csv": Layout(read_ag_news_csv, "CSV, no header: class (1 to 4), title, description"),
         "tsv": Layout(read_tsv, "TSV, header with sentence, label", Columns("sentence", "label"))},
        "accuracy", "non-commercial research use", classes=("World", "Sports", "Business", "Sci/Tech"), first_class=1,
    ),
    "20newsgroups": Known(
        CLASSIFICATION, "SetFit/20_newsgroups", Columns("text", "label_text"),
        {FOLDER: Layout(read_newsgroups, "a folder of group folders of files")}, "accuracy", "not stated",
    ),
}  # fmt: skip


def layout_of(name: str, path: Path) -> Layout:
    layouts = KNOWN[name].layouts
    kind = FOLDER if path.is_dir() else path.suffix.removeprefix(".").lower()
    found = layouts.get(kind) or (next(iter(layouts.values())) if len(layouts) == 1 else None)
    if found is None:
        raise InputError(f"{path} is no file of {name}: it takes {' or '.join(a.look for a in layouts.values())}")
    return found


def in_order(known: Known, make: RowMaker) -> RowMaker:
    """Rows with the names of the classes where the file has their numbers; other labels are refused."""
    if not known.classes:
        return make
    names = {str(known.first_class + i): name for i, name in enumerate(known.classes)}
    names |= {name: name for name in known.classes}

    def made(values: Values, columns: Columns, place: Place) -> list[Row]:
        rows = make(values, columns, place)
        for row in rows:
            if str(row.label) not in names:
                raise BadRow(f"label '{row.label}' is none of {', '.join(known.classes)}")
        return [replace(row, label=names[str(row.label)]) for row in rows]

    return made


def with_choice(columns: Columns, client: str | None, label: str | None) -> Columns:
    return replace(columns, client=client or columns.client, label=label or columns.label)


def check_slots(rows: list[Row], chosen: dict[str, str | None]) -> None:
    """Throws InputError where an option names a slot that no row has."""
    slots = dict.fromkeys(slot for row in rows for slot in row.slots)
    for option, slot in chosen.items():
        if slots and slot is not None and slot not in slots:
            raise InputError(f"no slot '{slot}' for --{option}; there are: {', '.join(slots)}")


def read_known(
    name: str, files: dict[int, Path], client: str | None, label: str | None, with_test: bool
) -> Source:  # fmt: skip
    """Rows of a data set of KNOWN: of its own files where some are named, else of the hub."""
    known = KNOWN[name]
    if not files:
        columns = with_choice(known.columns, client, label)
        make = in_order(known, known.make)
        try:
            source = read_hub(known.hub, known.splits, columns, make, with_test, known.hub_options)
        except InputError as error:
            looks = " or ".join(layout.look for layout in known.layouts.values())
            raise InputError(
                f"{error}. {name} can be read from files, too: --train FILE --test FILE ({looks})"
            ) from None
        source.licence = known.licence
        check_slots(source.rows, {"client": client, "label": label})
        return source
    source = Source(origin=", ".join(path.name for path in files.values()), licence=known.licence, splits=set(files))
    for split, path in files.items():
        check_file(path, split, folder=FOLDER in known.layouts)
        layout = layout_of(name, path)
        columns = with_choice(layout.columns or known.columns, client, label)
        records = layout.read(path, columns.wanted())
        used = source.take(records, in_order(known, known.make), columns, split, path.name)
        source.notes.append(f"{used} rows of {path}")
    check_slots(source.rows, {"client": client, "label": label})
    source.input_sha256 = files_sha256(
        file for path in files.values() for file in (postings(path) if path.is_dir() else [path])
    )
    return source
