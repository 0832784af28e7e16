"""Runs side by side: what they differ in, what to call them, which are seeds of one configuration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray

from . import measure, ranks
from .loader import asked_rounds, load, resume_command, saved_rounds, told_rounds

# Options that say where and how a run is carried out, not what it computes but for rounding.
EXECUTION = frozenset(
    "output resume overwrite max-hours checkpoint-every checkpoint-minutes threads device progress profile dry-run "
    "lockstep prefix-cache backend config print-config list version help".split()
)
AS_THEY_ARE, PERMUTED = "labels as they are", "labels permuted"
KINDS = ("personal", "common", "adapted")  # of models that are evaluated
# Methods whose weights are made to be adapted: what a client deploys is the adapted model, not the personal one.
ADAPTED_METHODS = frozenset(("per-fedavg",))
_NAME_IN_FIGURES = 24  # characters
WORDS = ("algorithm", "hypergradient", "partition", "optimizer")  # options whose values say by themselves what they are


def deployed(algorithm: str, evaluated) -> str:
    """The kind of score, of those that were evaluated, that a method is judged by."""
    return "adapted" if algorithm in ADAPTED_METHODS and "adapted" in evaluated else "personal"


@dataclass
class Run:
    """One results.h5; `name` is its directory's (or file's) name, `title` what a report of several calls it."""

    data: xarray.Dataset
    name: str
    title: str = ""

    def __post_init__(self):
        self.title = self.title or self.name

    @property
    def options(self) -> dict:
        return self.data.attrs["options"]

    @property
    def algorithm(self) -> str:
        return str(self.options.get("algorithm", "unknown"))

    @property
    def is_matrix(self) -> bool:
        return self.options.get("problem") == "matrix"

    @cached_property
    def measure(self) -> measure.Measure:
        """What the run is judged by."""
        return measure.of_results(self.data)

    @property
    def seed(self):
        return self.options.get("seed")

    @property
    def rounds_done(self) -> int:
        """The last round that the file holds."""
        return int(self.data["round"].values[-1]) if self.data.sizes["round"] else 0

    @property
    def rounds_told(self) -> str:
        """'12 rounds', or '12 of 40 rounds' while more were asked for."""
        asked = self.options.get("rounds")
        return told_rounds(self.rounds_done, None if asked == self.rounds_done else asked)

    @property
    def unfinished(self) -> str:
        """What a reader must know of a run that has not ended, or was resumed and has not ended since; else empty."""
        file = Path(self.data.attrs["path"])
        directory = file.parent if file.name == "results.h5" else None
        done, saved = self.rounds_done, (saved_rounds(directory) if directory else None) or 0
        ends = [str(reason) for reason in self.data["segment_exit"].values]
        complete = ends[-1:] == ["done"] and self.data.attrs.get("end_utc") and done >= self.options.get("rounds", 0)
        if complete and saved <= done:
            return ""
        asked = (asked_rounds(directory) if directory else None) or self.options.get("rounds")
        text = f"The run {self.name} has not ended: {told_rounds(max(saved, done), asked)} are done"
        if saved > done:
            text += f", of which this page shows the first {done}"
        elif ends and ends[-1] not in ("done", "unknown"):
            text += f"; stopped by {ends[-1]}"
        if directory and (directory / "options.ini").is_file():
            text += f". If it is not running still, go on with: {resume_command(directory)}"
        return text

    @property
    def trained(self) -> np.ndarray:
        """Clients that are not held out; all of them where every one is."""
        held_out = self.data["held_out"].values
        return ~held_out if not held_out.all() else np.ones_like(held_out)

    @property
    def took_part(self) -> np.ndarray:
        """Who was in which round's cohort, [round, client]."""
        return self.data["took_part"].transpose("round", "client").values > 0

    @property
    def undrawn(self) -> np.ndarray:
        """Clients that might have trained but were in no round's cohort, [client]."""
        return ~self.data["held_out"].values & ~self.took_part.any(axis=0) & (self.rounds_done > 0)

    @property
    def permuted(self) -> np.ndarray:
        """Clients that read their labels through a permutation of the classes, [client]."""
        if "label_map" not in self.data:
            return np.zeros(self.data.sizes["client"], dtype=bool)
        maps = self.data["label_map"].transpose("client", "class").values
        return (maps != np.arange(maps.shape[1])).any(axis=1)

    @property
    def short_names(self) -> np.ndarray:
        """What figures call the clients, [client]."""
        return np.array(client_names(self.data, _NAME_IN_FIGURES))

    def readings(self) -> dict[str, np.ndarray]:
        """Clients that train, by how they read their labels; empty where all read them in the same way."""
        groups = {AS_THEY_ARE: self.trained & ~self.permuted, PERMUTED: self.trained & self.permuted}
        return groups if all(chosen.any() for chosen in groups.values()) else {}

    def clients(self, name: str, evaluation: int = -1, step: int = -1) -> np.ndarray | None:
        """A variable [.., client, ..] at an evaluation (and adaptation step), [client, ..]; None without a value."""
        if name not in self.data:
            return None
        values = self.data[name]
        for dimension, index in (("evaluation", evaluation), ("adaptation_step", step)):
            if dimension in values.dims:
                if not values.sizes[dimension]:
                    return None
                values = values.isel({dimension: index})
        values = values.values.astype(float)
        return None if np.isnan(values).all() else values

    def score(self, kind: str, step: int = -1) -> np.ndarray | None:
        """The score of a kind (personal, common, adapted) at the last evaluation, [client], as it is shown; None without."""
        values = self.clients(self.measure.of(kind), step=step)
        return None if values is None else self.measure.scale * values

    @property
    def deployed(self) -> str:
        """The kind of score that the method is judged by."""
        return deployed(self.algorithm, [kind for kind in KINDS if self.score(kind) is not None])

    @property
    def majority(self) -> np.ndarray | None:
        """The score of always answering a client's most frequent training class, [client], as it is shown; None without."""
        values = self.clients("majority_accuracy")
        return None if values is None else self.measure.scale * values

    @property
    def weights(self) -> np.ndarray | None:
        """Test examples (tokens of a generation), [client]; None in the matrix problem."""
        return self.clients(f"test_{self.measure.weight}")

    def by_round(self, name: str, step: int = -1) -> np.ndarray | None:
        """A variable over evaluations for the clients that train, [evaluation, client]; None without values."""
        if name not in self.data:
            return None
        values = self.data[name]
        if "adaptation_step" in values.dims:
            if not values.sizes["adaptation_step"]:
                return None
            values = values.isel(adaptation_step=step)
        values = values.transpose("evaluation", "client").values.astype(float)[:, self.trained]
        return None if values.size == 0 or np.isnan(values).all() else values

    @property
    def adaptation_steps(self) -> list[int]:
        return [int(v) for v in self.data["adaptation_step"].values] if "adaptation_step" in self.data else []

    def spectra(self, kind: str) -> np.ndarray | None:
        """Singular values of the last record, [site, k] for common and [client, site, k] else; None if there are none."""
        values = self.data[f"{kind}_singular_values"]
        if not values.sizes["spectrum"] or not values.size:
            return None
        values = values.isel(spectrum=-1).values
        return None if np.isnan(values).all() else values

    @property
    def adds(self) -> bool:
        """Whether a client's own pair, where it has one, is added to the common one: else the total is that pair's."""
        return self.data.sizes["total_index"] != self.data.sizes["client_index"]

    @property
    def terms(self) -> list[str]:
        """Kinds of spectra that were recorded, but for a total that is the own pair's."""
        kinds = ("common", "client", "total") if self.adds else ("common", "client")
        return [kind for kind in kinds if self.spectra(kind) is not None]

    def client_rank_measure(self, measure: str, kind: str = "total") -> np.ndarray | None:
        """Mean over sites of a rank measure, [client]."""
        values = self.spectra(kind)
        return None if values is None else ranks.MEASURES[measure](values).mean(axis=-1)

    def phase_totals(self) -> dict[str, float]:
        """Seconds by phase over all rounds, mean over processes; empty without a round."""
        if not self.data.sizes["round"]:
            return {}
        seconds = self.data["phase_seconds"].sum("round").mean("process")
        return {str(phase): float(seconds.sel(phase=phase)) for phase in self.data["phase"].values}


@dataclass
class Configuration:
    """Runs that differ in their seed alone, in order of their seeds."""

    label: str
    runs: list[Run]

    @property
    def first(self) -> Run:
        return self.runs[0]


def read(paths) -> list[Run]:
    """Loads results; names that several share are told apart by their parent directories. Throws FormatError."""
    loaded = [load(path) for path in paths]
    files = [Path(data.attrs["path"]).resolve() for data in loaded]
    names = [file.parent.name if file.name == "results.h5" else file.stem for file in files]
    shared = {name for name, count in Counter(names).items() if count > 1}
    names = [f"{f.parent.parent.name}/{n}" if n in shared else n for f, n in zip(files, names)]
    return [Run(data, name) for data, name in zip(loaded, names)]


def differing(runs: list[Run]) -> list[str]:
    """Options, execution and seed aside, that two runs hold with different values, algorithm first."""
    names = dict.fromkeys(name for run in runs for name in run.options)
    found = [
        name
        for name in names
        if name not in EXECUTION and name != "seed"
        and len({show(run.options[name]) for run in runs if name in run.options}) > 1
    ]
    return sorted(found, key=lambda name: name != "algorithm")


def group(runs: list[Run]) -> list[Configuration]:
    """Seeds of the same configuration together, in order of appearance, labelled by what differs.

    A seed that comes again with the same configuration starts a configuration of its own. Of several runs, each gets
    its title from its configuration and its seed.
    """
    keys: dict[tuple, list[Run]] = {}
    for run in runs:
        key = tuple(sorted((k, show(v)) for k, v in run.options.items() if k not in EXECUTION and k != "seed"))
        copy = 0
        while any(other.seed == run.seed for other in keys.get((key, copy), [])):
            copy += 1
        keys.setdefault((key, copy), []).append(run)
    by_algorithm = {run.algorithm: [r for r in runs if r.algorithm == run.algorithm] for run in runs}
    groups = []
    for members in keys.values():
        # What differs between methods alone (a client-rank of 0) goes without saying.
        names = (["algorithm"] if len(by_algorithm) > 1 else []) + differing(by_algorithm[members[0].algorithm])
        members.sort(key=lambda run: (run.seed is None, run.seed))
        groups.append(Configuration(_label(members[0], names), members))
    counts = Counter(g.label for g in groups)
    for g in groups:
        if counts[g.label] > 1:
            g.label = f"{g.label} ({g.first.name})"
        for run in g.runs if len(runs) > 1 else []:
            run.title = g.label if len(g.runs) == 1 else f"{g.label}, seed {run.seed}"
    return groups


def _label(run: Run, names: list[str]) -> str:
    if not names:
        return run.algorithm
    parts = [
        show(run.options[name]) if name in WORDS else f"{name} {show(run.options[name])}"
        for name in names
        if name in run.options
    ]
    label = ", ".join(parts) or run.algorithm
    return label if len(label) <= 48 else f"{run.algorithm} ({run.name})"


def show(value) -> str:
    """An option's value as text."""
    if isinstance(value, list):
        return ",".join(show(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def client_names(data: xarray.Dataset, longest: int | None = None) -> list[str]:
    """'0', '1', ... or, where the data name clients, '0 coffee shop', [client]; cut to `longest` characters."""
    numbers = [str(k) for k in range(data.sizes["client"])]
    if "client_name" not in data:
        return numbers
    names = [f"{k} {name}" for k, name in zip(numbers, data["client_name"].values)]
    return [name if longest is None or len(name) <= longest else name[: longest - 1].rstrip() + "…" for name in names]


def same_partition(a: Run, b: Run) -> bool:
    """Whether two runs gave the same examples with the same labels to the same clients, so that clients pair up."""
    names = ("test_offsets", "test_index", "train_offsets", "train_index")
    if not all(name in run.data for name in names for run in (a, b)):
        return a.is_matrix and b.is_matrix and a.data.sizes["client"] == b.data.sizes["client"]
    maps = [run.data["label_map"].values if "label_map" in run.data else None for run in (a, b)]
    if (maps[0] is None) != (maps[1] is None) or maps[0] is not None and not np.array_equal(*maps):
        return False
    return all(np.array_equal(a.data[name].values, b.data[name].values) for name in names)


def told_undrawn(undrawn: list[int]) -> str:
    """What a reader must know of clients that no round drew, so many by run; empty where there are none."""
    counts = [count for count in undrawn if count]
    if not counts:
        return ""
    span = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    where = "" if len(undrawn) == 1 else f" in {len(counts)} of {len(undrawn)} runs"
    return (f"Clients that were drawn in none of the rounds{where}: {span}. They are as they started, and count in means "
            "over clients, in the worst of them and in learned ranks; took_part in results.h5 tells which they are.")
