"""The tables of FORMAT.md in machine-readable form. A test keeps the two in agreement."""

from __future__ import annotations

from dataclasses import dataclass

RESULTS_FORMAT = "pf2lora-results"
ADAPTERS_FORMAT = "pf2lora-adapters"
FORMAT_VERSION = 2
PHASES = ("train", "move", "all_reduce", "evaluate", "spectra", "write")
OPTION_DTYPES = ("int8", "int64", "float64", "string")
REQUIRED_OPTIONS = ("problem", "algorithm", "seed", "held-out-clients")
ADAPTERS_ATTRIBUTES = (("format", "string"), ("format_version", "int64"), ("round", "int64"))
COMBINES = ("adds", "replaces", "gated")


@dataclass(frozen=True)
class Dimension:
    """An axis; `coordinate` dimensions have values of their own, `index` ones are numbered from 0."""

    name: str
    kind: str
    dtype: str


@dataclass(frozen=True)
class Variable:
    """A variable of results.h5; presence is always, text, matrix or optional; `missing`: NaN is a value."""

    name: str
    dimensions: tuple[str, ...]
    dtype: str
    units: str
    presence: str
    missing: bool = False


@dataclass(frozen=True)
class Attribute:
    """An attribute of the root group of results.h5; presence as a variable's."""

    name: str
    dtype: str
    presence: str = "always"


@dataclass(frozen=True)
class Slice:
    """A dataset of adapters.h5; `<site>` in the path stands for a site's name, `<layer>` for a layer's number."""

    path: str
    shape: tuple[str, ...]
    dtype: str = "real"


DIMENSIONS = (
    Dimension("round", "coordinate", "int64"),
    Dimension("evaluation", "coordinate", "int64"),
    Dimension("spectrum", "coordinate", "int64"),
    Dimension("adaptation_step", "coordinate", "int64"),
    Dimension("phase", "coordinate", "string"),
    Dimension("client", "index", "int64"),
    Dimension("class", "index", "int64"),
    Dimension("predicted_class", "index", "int64"),
    Dimension("site", "index", "int64"),
    Dimension("process", "index", "int64"),
    Dimension("segment", "index", "int64"),
    Dimension("common_index", "index", "int64"),
    Dimension("client_index", "index", "int64"),
    Dimension("total_index", "index", "int64"),
    Dimension("train_row", "index", "int64"),
    Dimension("validation_row", "index", "int64"),
    Dimension("test_row", "index", "int64"),
    Dimension("client_bound", "index", "int64"),
    Dimension("answer", "coordinate", "int64"),
    Dimension("question", "index", "int64"),
    Dimension("answer_token", "index", "int64"),
)

_ROUND = ("round", "client")
_EVALUATION = ("evaluation", "client")
_ADAPTED = ("evaluation", "adaptation_step", "client")
_SITES = ("spectrum", "client", "site")
_ANSWERS = ("answer", "question")

VARIABLES = (
    Variable("train_loss", _ROUND, "float64", "nat", "always", True),
    Variable("took_part", _ROUND, "int32", "1", "always"),
    Variable("gradient_evaluations", _ROUND, "int64", "1", "always"),
    Variable("bytes_up", _ROUND, "int64", "byte", "always"),
    Variable("bytes_down", _ROUND, "int64", "byte", "always"),
    Variable("client_rank", _ROUND, "int64", "1", "always"),
    Variable("parameters_trained", ("client",), "int64", "1", "always"),
    Variable("parameters_stored", ("client",), "int64", "1", "always"),
    Variable("phase_seconds", ("round", "phase", "process"), "float64", "s", "always"),
    Variable("common_loss", _EVALUATION, "float64", "nat", "always", True),
    Variable("personal_loss", _EVALUATION, "float64", "nat", "always", True),
    Variable("adapted_loss", _ADAPTED, "float64", "nat", "optional", True),
    Variable("common_correct", _EVALUATION, "float64", "1", "optional", True),
    Variable("personal_correct", _EVALUATION, "float64", "1", "optional", True),
    Variable("adapted_correct", _ADAPTED, "float64", "1", "optional", True),
    *(
        Variable(f"{split}{model}_{what}", (*axes, *more), "float64", unit, "optional", True)
        for split in ("", "validation_")
        for model, axes in (("common", _EVALUATION), ("personal", _EVALUATION), ("adapted", _ADAPTED))
        for what, more, unit in (
            ("loss", (), "nat"),
            ("correct", (), "1"),
            ("confusion", ("class", "predicted_class"), "1"),
            ("pearson", (), "1"),
            ("spearman", (), "1"),
        )
        if split or what not in ("loss", "correct")
    ),
    Variable("relative_error", _EVALUATION, "float64", "1", "matrix", True),
    Variable("common_singular_values", ("spectrum", "site", "common_index"), "float64", "1", "always", True),
    Variable("client_singular_values", (*_SITES, "client_index"), "float64", "1", "always", True),
    Variable("total_singular_values", (*_SITES, "total_index"), "float64", "1", "always", True),
    Variable("subspace_overlap", _SITES, "float64", "1", "always", True),
    Variable("norm_ratio", _SITES, "float64", "1", "always", True),
    Variable("cosine", _SITES, "float64", "1", "always", True),
    Variable("train_examples", ("client",), "int64", "1", "text"),
    Variable("validation_examples", ("client",), "int64", "1", "text"),
    Variable("test_examples", ("client",), "int64", "1", "text"),
    *(Variable(f"{split}_tokens", ("client",), "int64", "1", "optional") for split in ("train", "validation", "test")),
    Variable("train_class_counts", ("client", "class"), "int64", "1", "text"),
    Variable("test_class_counts", ("client", "class"), "int64", "1", "text"),
    Variable("label_map", ("client", "class"), "int64", "1", "optional"),
    Variable("client_name", ("client",), "string", "1", "optional"),
    Variable("train_index", ("train_row",), "int64", "1", "text"),
    Variable("train_offsets", ("client_bound",), "int64", "1", "text"),
    Variable("validation_index", ("validation_row",), "int64", "1", "text"),
    Variable("validation_offsets", ("client_bound",), "int64", "1", "text"),
    Variable("test_index", ("test_row",), "int64", "1", "text"),
    Variable("test_offsets", ("client_bound",), "int64", "1", "text"),
    Variable("question_item", ("question",), "int64", "1", "optional"),
    Variable("question_offsets", ("client_bound",), "int64", "1", "optional"),
    *(
        Variable(f"{model}_answer_{what}", (*_ANSWERS, *more), dtype, "1", "optional")
        for model in ("common", "personal")
        for what, more, dtype in (
            ("tokens", ("answer_token",), "int32"),
            ("row", (), "int64"),
            ("first", (), "int32"),
            ("last", (), "int32"),
            ("score", (), "float64"),
            ("none", (), "float64"),
        )
    ),
    Variable("site_name", ("site",), "string", "1", "always"),
    Variable("site_target", ("site",), "string", "1", "always"),
    Variable("site_rows", ("site",), "int64", "1", "always"),
    Variable("site_columns", ("site",), "int64", "1", "always"),
    Variable("class_name", ("class",), "string", "1", "text"),
    Variable("segment_first_round", ("segment",), "int64", "1", "always"),
    Variable("segment_last_round", ("segment",), "int64", "1", "always"),
    Variable("segment_start_utc", ("segment",), "string", "1", "always"),
    Variable("segment_end_utc", ("segment",), "string", "1", "always"),
    Variable("segment_exit", ("segment",), "string", "1", "always"),
    Variable("segment_ranks", ("segment",), "int64", "1", "always"),
    Variable("segment_threads", ("segment",), "int64", "1", "always"),
    Variable("segment_hosts", ("segment",), "string", "1", "always"),
    Variable("segment_git_commit", ("segment",), "string", "1", "always"),
    Variable("segment_libtorch_version", ("segment",), "string", "1", "always"),
    Variable("segment_cpu_model", ("segment",), "string", "1", "always"),
    Variable("segment_backend", ("segment",), "string", "1", "optional"),
    Variable("segment_command_line", ("segment",), "string", "1", "always"),
)

ATTRIBUTES = (
    Attribute("format", "string"),
    Attribute("format_version", "int64"),
    Attribute("last_round", "int64"),
    Attribute("program", "string"),
    Attribute("program_version", "string"),
    Attribute("git_commit", "string"),
    Attribute("command_line", "string"),
    Attribute("start_utc", "string"),
    Attribute("end_utc", "string", "optional"),
    Attribute("algorithm", "string"),
    Attribute("hosts", "string list"),
    Attribute("ranks", "int64"),
    Attribute("threads", "int64"),
    Attribute("libtorch_version", "string"),
    Attribute("mpi_version", "string"),
    Attribute("hdf5_version", "string"),
    Attribute("cpu_model", "string"),
    Attribute("backend", "string", "optional"),
    Attribute("data_name", "string", "text"),
    Attribute("data_task", "string", "optional"),
    Attribute("data_source", "string", "text"),
    Attribute("data_licence", "string", "text"),
    Attribute("data_tokenizer", "string", "text"),
    Attribute("data_input_sha256", "string", "text"),
    Attribute("data_sha256", "string", "text"),
    Attribute("model_sha256", "string", "text"),
    Attribute("start_adapter_sha256", "string", "optional"),
)

SLICES = (
    Slice("common/<site>/A", ("r", "in")),
    Slice("common/<site>/B", ("out", "r")),
    Slice("client/<site>/C", ("client", "r~", "in")),
    Slice("client/<site>/D", ("client", "out", "r~")),
    Slice("client/<site>/A", ("client", "r", "in")),
    Slice("client/<site>/B", ("client", "out", "r")),
    Slice("common/<site>/base_delta", ("out", "in"), "float64"),
    Slice("common/prompt", ("p", "width")),
    Slice("client/prompt", ("client", "p~", "width")),
    Slice("common/prefix/<layer>/key", ("p", "width")),
    Slice("common/prefix/<layer>/value", ("p", "width")),
    Slice("client/prefix/<layer>/key", ("client", "p~", "width")),
    Slice("client/prefix/<layer>/value", ("client", "p~", "width")),
    Slice("common/head/weight", ("class", "hidden")),
    Slice("common/head/bias", ("class",)),
    Slice("client/head/weight", ("client", "class", "hidden")),
    Slice("client/head/bias", ("client", "class")),
)

DIMENSION = {d.name: d for d in DIMENSIONS}
VARIABLE = {v.name: v for v in VARIABLES}
