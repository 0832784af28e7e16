"""Does the learned rank follow the client? What a study takes from runs, and the rules by which it judges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import ranks, statistics
from .runs import EXECUTION, PERMUTED, Configuration, Run, same_partition, show

MEASURES = (*ranks.MEASURES, ranks.NOISE_EDGE)
RATIO, OVERLAP = "‖s′ D C‖ / ‖s B A‖", "subspace overlap"
TERMS = ("total", "own")
# What a quantity must differ by between clients: subspaces end where singular values fall below 1e-2 of the largest,
# and an overlap that is 1 but for that moves in the third digit.
LEAST_DIFFERENCE = {OVERLAP: 5e-3}
ENTROPY, EXAMPLES, LOSS, GAIN, OVER_LOCAL = ("label entropy", "training examples", "final training loss",
                                             "personal gain", "gain over local-only")
TARGET, ERROR = "target rank", "relative error"
# What is given before anything is learned: a rank that follows the client goes along with one of these.
GIVEN = (ENTROPY, EXAMPLES, PERMUTED, TARGET)
IID_ALPHA = 100  # from this Dirichlet concentration on clients count as alike
LEVEL = 0.05
PARTITION = frozenset("partition dirichlet-alpha label-sort shards-per-client quantity-alpha label-conflict min-examples "
                      .split())
CLEAN_ERROR = 1e-2  # a matrix is right below this relative error; with noise see Truth.matrix_right
_NOISE_FACTOR = 1.5


# ---- one run ----------------------------------------------------------------------------------------------
def has_ranks(run: Run) -> bool:
    """Whether clients can differ in the rank that they learned: one adapter for all has none to study."""
    total = run.spectra("total")
    if total is None or not run.data.sizes["site"]:
        return False
    total = total[run.trained]
    return run.spectra("client") is not None or (len(total) > 1 and not np.allclose(total, total[:1], rtol=1e-9))


def measure(run: Run, record: int = -1) -> dict[str, dict[str, np.ndarray]]:
    """{total, own: {measure: [client, site]}} at a spectrum, of the clients that train; own where the total is a sum.

    The noise-edge rank of the own term counts what is above the noise that shows in the client's total.
    """
    total = run.data["total_singular_values"].values[record][run.trained]
    own = run.data["client_singular_values"].values[record][run.trained]
    found = {"total": ranks.measures(total)}
    if run.terms == ["common", "client", "total"]:
        found["own"] = ranks.measures(own)
    shapes = np.stack([run.data["site_rows"].values, run.data["site_columns"].values], axis=1)
    for term in found:
        found[term][ranks.NOISE_EDGE] = np.full(total.shape[:-1], np.nan)
    for rows, columns in np.unique(shapes, axis=0):
        at = np.flatnonzero((shapes == (rows, columns)).all(axis=1))
        edge = ranks.noise_edge(total[:, at], int(rows), int(columns))
        found["total"][ranks.NOISE_EDGE][:, at] = ranks.noise_edge_rank(total[:, at], rows, columns, edge)
        if "own" in found:
            floor = np.maximum(edge, ranks.LEAST * total[:, at].max(axis=-1))
            found["own"][ranks.NOISE_EDGE][:, at] = ranks.noise_edge_rank(own[:, at], rows, columns, floor)
    return found


def between_levels(run: Run, record: int = -1) -> dict[str, np.ndarray]:
    """{RATIO, OVERLAP: [client, site]} of the clients that train, those that were recorded."""
    found = {}
    for name, variable in ((RATIO, "norm_ratio"), (OVERLAP, "subspace_overlap")):
        values = run.data[variable].values[record][run.trained] if run.data[variable].size else np.empty(0)
        if values.size and not np.isnan(values).all():
            found[name] = values
    return found


def over_sites(values: np.ndarray) -> np.ndarray:
    """Mean over sites of [client, site], [client]; what is not defined at a site is left out."""
    known = ~np.isnan(values)
    return np.divide(np.where(known, values, 0).sum(axis=1), known.sum(axis=1), out=np.full(len(values), np.nan),
                     where=known.any(axis=1))


def final_training_loss(run: Run) -> np.ndarray | None:
    """Mean loss over the local steps of the last round that each client took part in, [client]."""
    losses = run.data["train_loss"].transpose("round", "client").values[:, run.trained]
    last = np.full(losses.shape[1], np.nan)
    for row in losses:
        last = np.where(np.isnan(row), last, row)
    return None if np.isnan(last).all() else last


def is_iid(run: Run) -> bool:
    """Whether the clients of a text run are alike in what they hold."""
    options = run.options
    if run.is_matrix or float(options.get("label-conflict", 0)) > 0:
        return False
    kind = options.get("partition")
    return kind == "iid" or (kind == "dirichlet" and float(options.get("dirichlet-alpha", 0)) >= IID_ALPHA)


# ---- the known-rank problem -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Truth:
    """What the matrix problem's clients ought to learn, [client] of those that train."""

    spectra: np.ndarray  # [client, k], descending, padded with 0
    rank: np.ndarray
    own_rank: np.ndarray  # directions of the target that no other client's has
    error: np.ndarray  # relative error of what was learned
    reachable: np.ndarray  # relative error below which a matrix counts as right
    deviation: float  # of the noise, 0: none

    @property
    def matrix_right(self) -> np.ndarray:
        """Relative error below CLEAN_ERROR, or below 1.5 times the error that noise leaves to who knows the rank.

        That is about sigma sqrt(d (m + n - d)) over the norm of the target, d its rank: its degrees of freedom.
        """
        return self.error < self.reachable

    def of(self, name: str, run: Run) -> np.ndarray:
        """A measure of the target itself, [client]."""
        return self.rank.astype(float) if name == ranks.NOISE_EDGE else ranks.MEASURES[name](self.spectra)


def truth(run: Run) -> Truth | None:
    """Of a matrix run, from its options; None where it does not say."""
    options, errors = run.options, run.clients("relative_error")
    if not run.is_matrix or errors is None or "matrix-common-values" not in options:
        return None
    shared = _numbers(show(options["matrix-common-values"]))
    own = [_numbers(part) for part in show(options.get("matrix-client-values", "")).split(";")]
    clients = np.flatnonzero(run.trained)
    values = [sorted(shared + own[k % len(own)], reverse=True) for k in clients]
    spectra = np.array([v + [0.0] * (max(map(len, values)) - len(v)) for v in values])
    rank = (spectra > 0).sum(axis=1)
    rows, columns = int(run.data["site_rows"].values[0]), int(run.data["site_columns"].values[0])
    deviation, samples = float(options.get("matrix-noise", 0)), int(options.get("matrix-samples", 0))
    # At n inputs the least-squares error of each entry is that of the noise over sqrt(n).
    noise = deviation / math.sqrt(samples) if samples else deviation
    left = noise * np.sqrt(rank * (rows + columns - rank)) / np.sqrt((spectra**2).sum(axis=1))
    return Truth(spectra, rank, rank - len(shared), errors[run.trained], np.maximum(CLEAN_ERROR, _NOISE_FACTOR * left),
                 0.0 if samples else deviation)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part.strip()]


def rank_right(name: str, learned: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Whether a measure of what was learned is that of the target: counts alike, other measures within 5%."""
    if name in ("stable rank", "entropy rank", "participation ratio"):
        return np.abs(learned - wanted) <= 0.05 * wanted
    return np.round(learned) == np.round(wanted)


# ---- a configuration --------------------------------------------------------------------------------------
class Subject:
    """Runs of one method in one setting, a seed each; `others` are all runs of the study, for controls."""

    def __init__(self, configuration: Configuration, others: list[Run], setting: str = "", method: str = ""):
        self.label, self.setting, self.method = configuration.label, setting, method
        self.runs = [run for run in configuration.runs if has_ranks(run)]
        self._others = others

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def is_matrix(self) -> bool:
        return self.first.is_matrix

    @property
    def is_iid(self) -> bool:
        return all(is_iid(run) for run in self.runs)

    @property
    def clients(self) -> int:
        return int(self.first.trained.sum())

    @property
    def has_intervals(self) -> bool:
        """Whether correlations can have intervals: over seeds, or over enough clients."""
        return len(self.runs) > 1 or self.clients >= statistics.FEWEST

    @property
    def two_levels(self) -> bool:
        return "own" in self.measured[0]

    @cached_property
    def measured(self) -> list[dict[str, dict[str, np.ndarray]]]:
        """measure() of each run at the last spectrum."""
        return [measure(run) for run in self.runs]

    @cached_property
    def levels(self) -> list[dict[str, np.ndarray]]:
        """between_levels() of each run at the last spectrum."""
        return [between_levels(run) for run in self.runs]

    @cached_property
    def truths(self) -> list[Truth | None]:
        return [truth(run) for run in self.runs]

    @cached_property
    def effects(self) -> dict[tuple[str, str], list[np.ndarray]]:
        """{(term, measure) or ('', RATIO or OVERLAP): [client] of each run}, means over sites."""
        found = {(term, name): [over_sites(m[term][name]) for m in self.measured]
                 for term in self.measured[0] for name in MEASURES}
        return found | {("", name): [over_sites(v[name]) for v in self.levels]
                        for name in (RATIO, OVERLAP) if all(name in v for v in self.levels)}

    @cached_property
    def causes(self) -> dict[str, list[np.ndarray]]:
        """{name: [client] of each run} of what a client's rank is held against; only what differs between clients."""
        named = {ENTROPY: lambda run: _of(run, "label_entropy"), EXAMPLES: lambda run: _of(run, "train_examples"),
                 PERMUTED: lambda run: run.permuted[run.trained].astype(float),
                 TARGET: lambda run: None if truth(run) is None else truth(run).rank.astype(float),
                 LOSS: final_training_loss, ERROR: lambda run: _of(run, "relative_error"),
                 f"{GAIN}, {self.first.measure.gain}": _personal_gain,
                 f"{OVER_LOCAL}, {self.first.measure.gain}": self._over_local}
        found = {name: [value(run) for run in self.runs] for name, value in named.items()}
        return {name: values for name, values in found.items()
                if all(v is not None and np.isfinite(v).any() for v in values)
                and not all(statistics.constant(v[~np.isnan(v)]) for v in values)}

    def _over_local(self, run: Run) -> np.ndarray | None:
        local = next((o for o in self._others if o.algorithm == "local" and o.seed == run.seed and same_partition(run, o)
                      and not o.is_matrix), None)
        if local is None or run.algorithm == "local":
            return None
        return _gain(run, _score(run, "personal"), _score(local, "personal"))

    def same_for_all(self, effect: tuple[str, str]) -> bool:
        """Whether a measure has one value at a site for all clients of a run, in every run."""
        term, name = effect
        values = [m[term][name] if term else v[name] for m, v in zip(self.measured, self.levels)]
        return all(statistics.constant(site[~np.isnan(site)]) for v in values for site in v.T if not np.isnan(site).all())

    @cached_property
    def correlations(self) -> dict[tuple[str, str, str, bool], statistics.Correlation]:
        """{(term, measure, cause, of ranks): correlation over clients}, over seeds where there are several."""
        return {(*effect, cause, rank): statistics.correlation_over_seeds(zip(self.apart(effect), by), rank)
                for effect in self.effects for cause, by in self.causes.items() for rank in (True, False)}

    def apart(self, effect: tuple[str, str]) -> list[np.ndarray]:
        """A row of `effects`, each run's clients as one value where they differ by less than LEAST_DIFFERENCE."""
        return [statistics.told_apart(values, LEAST_DIFFERENCE.get(effect[1], 0.0)) for values in self.effects[effect]]

    @property
    def knows_ranks(self) -> bool:
        """Whether every run says which ranks its targets have."""
        return all(t is not None for t in self.truths)

    def right(self, name: str) -> np.ndarray:
        """Whether a measure of the total is that of the target, [clients of all runs]."""
        return np.concatenate([rank_right(name, values, t.of(name, run)) for values, t, run in zip(
            self.effects["total", name], self.truths, self.runs)])

    def own_right(self, name: str) -> np.ndarray:
        """Whether a count of the own term is the number of the client's own directions, [clients of all runs]."""
        return rank_right(name, np.concatenate(self.effects["own", name]), self.of_truths("own_rank"))

    def of_truths(self, name: str) -> np.ndarray:
        """A quantity of Truth, [clients of all runs]."""
        return np.concatenate([getattr(t, name) for t in self.truths])

    @cached_property
    def known_noise(self) -> np.ndarray | None:
        """Ranks above the best threshold for the noise that the runs were given, [clients of all runs]; None without."""
        if not self.knows_ranks or not all(t.deviation > 0 for t in self.truths):
            return None
        return np.concatenate([ranks.known_noise_rank(
            run.data["total_singular_values"].values[-1][run.trained, 0], int(run.data["site_rows"].values[0]),
            int(run.data["site_columns"].values[0]), t.deviation) for run, t in zip(self.runs, self.truths)])

    def is_control_of(self, other: Subject) -> bool:
        """Whether this is the same method as `other` with clients that are alike."""
        if self is other or not self.is_iid or other.is_iid or self.first.algorithm != other.first.algorithm:
            return False
        return self.method == other.method if self.method else self._key == other._key

    @property
    def _key(self) -> list[tuple[str, str]]:
        return sorted((name, show(value)) for name, value in self.first.options.items()
                      if name not in EXECUTION | PARTITION | {"seed"})


def _of(run: Run, name: str) -> np.ndarray | None:
    values = run.clients(name)
    return None if values is None else values[run.trained]


def _personal_gain(run: Run) -> np.ndarray | None:
    """By how much the personal score is better than the common one, [client]; of text alone."""
    return None if run.is_matrix else _gain(run, _score(run, "personal"), _score(run, "common"))


def _score(run: Run, kind: str) -> np.ndarray | None:
    return run.clients(run.measure.of(kind))


def _gain(run: Run, mine: np.ndarray | None, theirs: np.ndarray | None) -> np.ndarray | None:
    """By how much scores are better than others, [client] of those that train; None without either."""
    return None if mine is None or theirs is None else run.measure.scale * run.measure.better_by(mine, theirs)[run.trained]


@dataclass
class Study:
    """The subjects of a study, and what was left out of it."""

    subjects: list[Subject]
    without: list[str]  # labels of configurations whose clients all have one adapter

    def control(self, subject: Subject) -> Subject | None:
        return next((other for other in self.subjects if other.is_control_of(subject)), None)

    def needs_control(self, subject: Subject) -> bool:
        return not subject.is_matrix and not subject.is_iid

    def spreads(self, subject: Subject) -> dict[tuple[str, str], tuple[float, float]]:
        """{effect: (variance over clients over that of the iid control, p that it is no larger)}; empty without one."""
        other = self.control(subject)
        if other is None:
            return {}
        return {effect: statistics.spread_ratio(subject.apart(effect), other.apart(effect))
                for effect in subject.effects if effect in other.effects}


def study(configurations: list[tuple[Configuration, str, str]]) -> Study:
    """Of configurations with their setting and method, empty where there is but one folder-less run."""
    others = [run for configuration, _, _ in configurations for run in configuration.runs]
    fitting = [c for c in configurations if any(has_ranks(run) for run in c[0].runs)]
    return Study([Subject(configuration, others, setting, method) for configuration, setting, method in fitting],
                 [c[0].label for c in configurations if c not in fitting])
