"""A folder of runs as one comparison: methods by settings, seeds paired, the tuned settings chosen by validation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import measure, statistics
from .loader import FormatError, load_scores
from .measure import Measure
from .runs import ADAPTED_METHODS, EXECUTION, KINDS, WORDS, Run, deployed, show
from .tables import further_mean

# Options that say what is learned from which data: runs that differ in one of them are of different settings.
SETTING_OPTIONS = frozenset(
    "problem model data pooling precision clients clients-per-round held-out-clients partition dirichlet-alpha "
    "label-sort shards-per-client quantity-alpha label-conflict examples-per-client test-examples-per-client "
    "validation-share test-share min-examples".split()
)


@dataclass
class Scores:
    """What a comparison takes from one run. Arrays are over the clients that train, [client], scores as their variables."""

    path: str
    setting: str
    method: str
    tuned: dict[str, str]
    options: dict
    measure: Measure
    scores: dict[str, np.ndarray]  # of KINDS and majority, those that were evaluated
    further: dict[str, float]  # {name: mean over clients} of the measure's further quantities of what is deployed
    curves: dict[str, tuple[np.ndarray, np.ndarray]]  # (round numbers, means over clients) by kind
    costs: dict[str, float]  # of a client in a round, and parameters
    partition: str  # equal where clients hold the same examples, with the same labels
    version: str
    unseen: float = math.nan  # score of held-out clients after adaptation
    validation: float = math.nan
    loss: np.ndarray | None = None  # matrix problem: of the personal model
    permuted: np.ndarray | None = None  # who reads labels permuted; None where all read them in the same way
    undrawn: int = 0  # clients that no round drew

    @property
    def seed(self):
        return self.options.get("seed")

    @property
    def algorithm(self) -> str:
        return str(self.options.get("algorithm", "unknown"))

    def mean(self, kind: str) -> float:
        """Macro mean score, as it is shown; NaN where it was not evaluated."""
        return self.measure.scale * statistics.macro_mean(self.scores[kind]) if kind in self.scores else math.nan

    def mean_of_readers(self, permuted: bool) -> float:
        """As headline, of the clients that read their labels permuted, or of the others; NaN where all are alike."""
        if self.permuted is None or self.deployed not in self.scores:
            return math.nan
        return self.measure.scale * statistics.macro_mean(self.scores[self.deployed][self.permuted == permuted])

    @property
    def deployed(self) -> str:
        """The kind of score that the method is judged by."""
        return deployed(self.algorithm, self.scores)

    @property
    def headline(self) -> float:
        """Score of what is deployed, as it is shown; in the matrix problem log10 of the mean relative error."""
        mean = self.mean(self.deployed)
        if self.measure is not measure.MATRIX:
            return mean
        return math.log10(mean) if mean > 0 else math.nan


@dataclass
class Candidate:
    """One setting of the tuned options: its runs and their mean validation score."""

    tuned: dict[str, str]
    runs: list[Scores]
    validation: float = math.nan


@dataclass
class Cell:
    """A method in a setting, with the tuned options that were chosen; runs in order of their seeds."""

    setting: str
    method: str
    runs: list[Scores]
    candidates: list[Candidate]
    wanted: int  # runs of the chosen candidate, ended or not
    grid: int  # candidates, ended or not

    def over_seeds(self, value) -> list[float]:
        return [value(run) for run in self.runs]

    @property
    def first(self) -> Scores:
        return self.runs[0]


@dataclass(frozen=True)
class Contender:
    """A method in a setting by what its clients deploy, or by its adapted models beside that."""

    name: str
    kind: str
    cell: Cell
    value: Callable[[Scores], float]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.macro_mean(self.cell.over_seeds(self.value))


def contenders(cell: Cell) -> list[Contender]:
    """The method itself, and what it makes when adapted where it was not made for that."""
    first = Contender(cell.method, cell.first.deployed, cell, lambda run: run.headline)
    adapted = Contender(f"{cell.method}, adapted", "adapted", cell, lambda run: run.mean("adapted"))
    return [first] if first.kind == "adapted" or math.isnan(adapted.mean) else [first, adapted]


@dataclass
class Comparison:
    """All cells, by (setting, method), in the order of the sweep."""

    folder: Path
    cells: dict[tuple[str, str], Cell]
    reference: str
    missing: list[str] = field(default_factory=list)  # runs that are listed and have not ended
    further: list[str] = field(default_factory=list)  # runs that stand in the folder and are not listed

    @property
    def settings(self) -> list[str]:
        return list(dict.fromkeys(setting for setting, _ in self.cells))

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for _, method in self.cells))

    def of(self, setting: str) -> list[Cell]:
        return [cell for (where, _), cell in self.cells.items() if where == setting]

    def contenders(self, setting: str) -> list[Contender]:
        return [contender for cell in self.of(setting) for contender in contenders(cell)]

    @property
    def runs(self) -> list[Scores]:
        return [run for cell in self.cells.values() for run in cell.runs]

    @property
    def measure(self) -> Measure:
        return self.runs[0].measure

    @property
    def is_matrix(self) -> bool:
        return self.measure is measure.MATRIX

    def local_only(self, run: Scores) -> Scores | None:
        """Local-only training of the same setting, seed and partition."""
        others = (other for cell in self.of(run.setting) for other in cell.runs if other.algorithm == "local")
        return next((other for other in others if pairs_up(run, other)), None)


def pairs_up(a: Scores, b: Scores) -> bool:
    """Whether two runs are of the same seed and gave the same examples to the same clients."""
    return a.seed == b.seed and a.partition == b.partition


def differences(cell: Cell, reference: Cell, value) -> list[float]:
    """value(run) minus the headline of the reference's run of the same seed and partition, for every seed of both."""
    return [value(run) - other.headline for run in cell.runs for other in reference.runs if pairs_up(run, other)]


# ---- reading ----------------------------------------------------------------------------------------------
def is_folder(path) -> bool:
    """Whether a path is a folder of runs: a sweep's, or one that holds results.h5 further down only."""
    path = Path(path)
    if not path.is_dir() or (path / "results.h5").exists():
        return False
    return (path / "sweep.json").is_file() or next(path.rglob("results.h5"), None) is not None


def read_folder(folder, reference: str | None = None) -> Comparison:
    """The comparison of all runs of a folder. Throws FormatError.

    sweep.json tells what each run is; without it, runs are told apart by their options.
    """
    folder = Path(folder)
    listed = _listed(folder) if (folder / "sweep.json").is_file() else None
    standing = sorted(file.parent for file in folder.rglob("results.h5"))
    entries = {folder / entry["path"]: entry for entry in listed} if listed is not None else dict.fromkeys(standing)
    ended = [path for path, entry in entries.items() if _ended(path, entry and entry["rounds"])]
    scores = [scored(path, folder, entries[path]) for path in ended]
    if listed is None:
        _label(scores)
        wanted = [(run.setting, run.method, ()) for run in scores]
    else:
        wanted = [(entry["setting"], entry["method"], tuple(entry["tuned"].items())) for entry in listed]
    missing = [_name(path, folder) for path in entries if path not in ended]
    further = [_name(path, folder) for path in standing if path not in entries]
    if not scores:
        raise FormatError(f"{folder} holds no run that has ended; jobs/sweep.py goes on with a sweep")
    if conflict := measure.conflict(run.measure for run in scores):
        raise FormatError(conflict)
    cells = _cells(scores, wanted)
    return Comparison(folder, cells, _reference(cells, reference), missing, further)


def _listed(folder: Path) -> list[dict]:
    try:
        content = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        if content["format"] != "pf2lora-sweep" or content["format_version"] != 1:
            raise ValueError("another format")
        for entry in content["runs"]:
            for name in ("path", "setting", "method", "rounds", "tuned"):
                entry[name]
        return content["runs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{folder / 'sweep.json'} is not what jobs/sweep.py writes ({error!r}); run the sweep again"
                          ) from error


def _name(directory: Path, folder: Path) -> str:
    return str(directory.relative_to(folder))


def _ended(directory: Path, rounds: int | None) -> bool:
    """Whether a run's results.h5 holds all its rounds (`rounds`, or those that it was asked for)."""
    import h5py

    if any((directory / "segments").glob("*.h5")):
        return False
    try:
        with h5py.File(directory / "results.h5", "r") as file:
            asked = int(file["options"].attrs["rounds"]) if rounds is None else rounds
            return int(np.max(file["round"][...], initial=0)) >= asked
    except OSError:
        return False
    except KeyError:  # written by something else: the loader says what is wrong
        return True


def scored(directory: Path, folder: Path, entry: dict | None = None) -> Scores:
    """Loads a run and keeps what a comparison needs. Throws FormatError."""
    data = load_scores(directory)
    run = Run(data, _name(directory, folder))
    entry = entry or {"setting": "", "method": "", "tuned": {}}
    kinds = ("personal",) if run.is_matrix else KINDS
    names = {kind: run.measure.of(kind) for kind in kinds}
    curves = {kind: run.by_round(name) for kind, name in names.items()}
    values = {kind: run.clients(name) for kind, name in (names | {"majority": "majority_accuracy"}).items()}
    values = {kind: v for kind, v in values.items() if v is not None}
    adapted = values.get("adapted")
    held_out = data["held_out"].values
    return Scores(
        path=run.name, setting=entry["setting"], method=entry["method"], tuned=entry["tuned"],
        options=run.options, measure=run.measure, scores={kind: v[run.trained] for kind, v in values.items()},
        further={further.name: further_mean(run, further, run.deployed)
                 for further in run.measure.compared},
        curves={kind: (data["evaluation"].values, _client_means(v)) for kind, v in curves.items() if v is not None},
        costs=_costs(run), partition=_partition(run),
        version=" ".join(str(data.attrs.get(name, ""))[:12] for name in ("program_version", "git_commit")).strip(),
        unseen=statistics.macro_mean(adapted[held_out]) if adapted is not None and not held_out.all() else math.nan,
        validation=validation_score(run), loss=_trained(run, "personal_loss") if run.is_matrix else None,
        permuted=run.permuted[run.trained] if run.readings() else None, undrawn=int(run.undrawn.sum()))


def _client_means(values: np.ndarray) -> np.ndarray:
    return np.array([statistics.macro_mean(row) for row in values])


def _trained(run: Run, name: str) -> np.ndarray | None:
    values = run.clients(name)
    return None if values is None else values[run.trained]


def _partition(run: Run) -> str:
    digest = hashlib.sha256()
    names = ("train_offsets", "train_index", "test_offsets", "test_index")
    if all(name in run.data for name in names):
        digest.update(str(run.data.attrs.get("data_sha256", "")).encode())
        for name in names:
            digest.update(run.data[name].values.tobytes())
        if "label_map" in run.data:
            digest.update(run.data["label_map"].values.tobytes())
    else:
        keys = ("clients", "seed", *(name for name in run.options if name.startswith("matrix-")))
        digest.update(repr([(name, show(run.options.get(name, ""))) for name in keys]).encode())
    return digest.hexdigest()


def _costs(run: Run) -> dict[str, float]:
    """What a client computed and sent in a round that it took part in, and parameters; what is not recorded lacks."""
    data, took, costs = run.data, run.took_part, {}
    for name in ("gradient_evaluations", "bytes_up", "bytes_down"):
        if name in data and took.any():
            costs[name] = float(data[name].transpose("round", "client").values[took].mean())
    for name, attribute in (("parameters_trained", "trained_parameters"), ("parameters_stored", "stored_parameters")):
        if name in data:
            costs[name] = float(data[name].values[run.trained].mean())
        elif attribute in data.attrs:
            costs[name] = float(np.mean(data.attrs[attribute]))
    return costs


def validation_score(run: Run) -> float:
    """Macro mean score, of what is deployed, on the clients' validation examples at the last evaluation.

    NaN where none is recorded.
    """
    kind = "adapted" if run.algorithm in ADAPTED_METHODS else "personal"
    values = _trained(run, run.measure.of(kind, "validation_"))
    return math.nan if values is None else statistics.macro_mean(values)


# ---- what a folder without sweep.json holds ---------------------------------------------------------------
def _label(runs: list[Scores]) -> None:
    """Names settings by the options of data and clients in which runs differ, methods by all else."""
    for run in runs:
        same = [other for other in runs if other.algorithm == run.algorithm]
        run.setting = _words(run, [n for n in _differing(runs) if n in SETTING_OPTIONS])
        rest = _words(run, [n for n in _differing(same) if n not in SETTING_OPTIONS])
        run.method = ", ".join([run.algorithm, *([rest] if rest else [])])


def _differing(runs: list[Scores]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.options)
    values = {name: {show(run.options[name]) for run in runs if name in run.options} for name in names}
    return [n for n, v in values.items() if n not in EXECUTION and n not in ("seed", "algorithm") and len(v) > 1]


def _words(run: Scores, names: list[str]) -> str:
    return ", ".join(show(run.options[name]) if name in WORDS else f"{name} {show(run.options[name])}"
                     for name in names if name in run.options)


# ---- seeds and tuning -------------------------------------------------------------------------------------
def _cells(scores: list[Scores], wanted: list[tuple]) -> dict[tuple[str, str], Cell]:
    """Cells of the runs that ended; `wanted` has (setting, method, tuned options) of every run, ended or not."""
    found: dict[tuple[str, str], dict[tuple, Candidate]] = {}
    for run in scores:
        candidates = found.setdefault((run.setting, run.method), {})
        candidate = candidates.setdefault(tuple(run.tuned.items()), Candidate(run.tuned, []))
        for other in candidate.runs:
            if other.seed == run.seed:
                raise FormatError(f"{other.path} and {run.path} are the same configuration with the same seed; "
                                  "compare a folder that holds each once")
        candidate.runs.append(run)
    cells = {}
    for (setting, method), candidates in found.items():
        for candidate in candidates.values():
            candidate.runs.sort(key=lambda run: (run.seed is None, run.seed))
        chosen = choose(list(candidates.values()), setting, method)
        asked = [tuned for where, what, tuned in wanted if (where, what) == (setting, method)]
        cells[setting, method] = Cell(setting, method, chosen.runs, list(candidates.values()),
                                      asked.count(tuple(chosen.tuned.items())), len(set(asked)))
    return cells


def choose(candidates: list[Candidate], setting: str, method: str) -> Candidate:
    """The candidate of the best mean validation score over seeds, among those with the most seeds.

    Test scores have no part in it: throws FormatError where several candidates have no validation score.
    """
    if len(candidates) == 1:
        return candidates[0]
    for candidate in candidates:
        values = [run.validation for run in candidate.runs]
        if any(math.isnan(value) for value in values):
            where = f"{method} in {setting}" if setting else method
            raise FormatError(
                f"{where} was run with {len(candidates)} settings of {', '.join(candidates[0].tuned)}, and "
                f"{candidate.runs[0].path} has no validation score to choose by; run with --validation-share. The "
                "test set is never used for that")
        candidate.validation = statistics.macro_mean(values)
    most = max(len(candidate.runs) for candidate in candidates)
    return min((c for c in candidates if len(c.runs) == most),
               key=lambda c: c.runs[0].measure.loss_like(c.validation))


def _reference(cells: dict, wanted: str | None) -> str:
    methods = list(dict.fromkeys(method for _, method in cells))
    if wanted is not None:
        if wanted not in methods:
            raise FormatError(f"there is no method '{wanted}' to compare with; there are {', '.join(methods)}")
        return wanted
    if "pf2lora" in methods:
        return "pf2lora"
    return next((method for (_, method), cell in cells.items() if cell.first.algorithm == "pf2lora"), methods[0])
