"""Rank measures of singular values s [..., k] along the last axis, descending; leading axes are kept.

Zero spectra, and spectra of length 0, have rank 0 in every measure; a spectrum with a NaN, which was not recorded, has
rank NaN. That is why counts are float64 too.

Two measures look for the floor of noise. Rules that estimate it from the median of all singular values (Gavish and
Donoho, IEEE Trans. Inf. Theory 60, 2014) have nothing to hold on to here: of an m x n product of rank k = r + r~ all
but k values are exactly 0. What remains visible of noise are the largest values of its bulk, so gap_rank asks for the
step down to them, and noise_edge_rank whether the last values look like the upper end of such a bulk.
"""

from __future__ import annotations

import functools
import math

import numpy as np

PADDING = 1e-13  # of s_1: what is below was never part of a factor, but for rounding in double
NOTHING = 1e-6  # of s_1: what is below is no part of a matrix that was learned in single precision
# The least step from signal to noise: over all shapes, Gavish and Donoho's threshold is at most this many times the
# edge of the noise (their lambda*(beta) / (1 + sqrt(beta)), largest for beta -> 0).
GAP = math.sqrt(2)
LEAST = 1e-3  # of s_1: what the noise-edge rank counts where no noise shows
TAIL = 3  # values that noise must at least be seen in
_TRACY_WIDOM_99 = 2.0234  # 99% quantile of the Tracy-Widom law of order 1


def _scaled(s) -> np.ndarray:
    """s / s_1, so that nothing over- or underflows; zero spectra stay zero."""
    s = np.asarray(s, dtype=float)
    if s.shape[-1] == 0:
        return np.zeros((*s.shape[:-1], 1))
    largest = s.max(axis=-1, keepdims=True)
    return np.divide(s, largest, out=s * 0.0, where=largest > 0)


def _keep_nan(s, value) -> np.ndarray:
    return np.where(np.isnan(s).any(axis=-1), np.nan, value)


def _ratio(above, below) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def numerical_rank(s, tolerance: float = 1e-2) -> np.ndarray:
    """Number of singular values of at least tolerance * s_1."""
    s = _scaled(s)
    return _keep_nan(s, (s >= tolerance).sum(axis=-1))


def energy_rank(s, share: float = 0.95) -> np.ndarray:
    """Fewest leading singular values whose squares reach `share` of the sum of squares."""
    s = _scaled(s)
    reached = np.cumsum(np.sort(s, axis=-1)[..., ::-1] ** 2, axis=-1)
    total = reached[..., -1:]
    # 1e-12 lets a share that is met exactly count as met after rounding.
    short = (reached < share * total * (1 - 1e-12)).sum(axis=-1)
    return _keep_nan(s, np.where(total[..., 0] > 0, short + 1, 0))


def stable_rank(s) -> np.ndarray:
    """sum s^2 / s_1^2."""
    s = _scaled(s)
    return (s**2).sum(axis=-1)


def entropy_rank(s) -> np.ndarray:
    """exp(-sum p log p) with p = s / sum s (Roy and Vetterli 2007)."""
    s = _scaled(s)
    p = _ratio(s, np.broadcast_to(s.sum(axis=-1, keepdims=True), s.shape))
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)
    return _keep_nan(s, np.where((s > 0).any(axis=-1), np.exp(entropy), 0.0))


def participation_ratio(s) -> np.ndarray:
    """(sum s^2)^2 / sum s^4."""
    s = _scaled(s)
    return _keep_nan(s, _ratio((s**2).sum(axis=-1) ** 2, (s**4).sum(axis=-1)))


def gap_rank(s) -> np.ndarray:
    """Number of singular values above the widest gap, the j with the largest s_j / s_(j+1); all where none is wide.

    The eigenvalue ratio of Ahn and Horenstein (Econometrica 81, 2013), which needs the leading values alone. Gaps
    below GAP are none: the values above them would not stand out of noise that ends there. A spectrum without a gap
    shows no noise, and all its values count, but for those below PADDING.
    """
    s = _scaled(s)
    seen = (s >= PADDING).sum(axis=-1)
    floored = np.maximum(s, NOTHING)
    steps = np.where(s[..., 1:] >= PADDING, floored[..., :-1] / floored[..., 1:], 0.0)
    if not steps.shape[-1]:
        return _keep_nan(s, seen)
    return _keep_nan(s, np.where(np.max(steps, axis=-1) >= GAP, np.argmax(steps, axis=-1) + 1, seen))


# ---- noise in a matrix of a known shape -------------------------------------------------------------------
def hard_threshold(rows: int, columns: int) -> float:
    """lambda*(beta) sqrt(n): the best hard threshold of singular values for noise of deviation 1 (Gavish and Donoho)."""
    short, long = sorted((rows, columns))
    beta = short / long
    return math.sqrt((2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta**2 + 14 * beta + 1))) * long)


def known_noise_rank(s, rows: int, columns: int, deviation: float) -> np.ndarray:
    """Number of singular values above the best hard threshold for noise of a known standard deviation."""
    s = np.asarray(s, dtype=float)
    return _keep_nan(s, (s > deviation * hard_threshold(rows, columns)).sum(axis=-1))


@functools.lru_cache(maxsize=4096)
def bulk(rows: int, columns: int, count: int) -> tuple[float, np.ndarray]:
    """What noise of deviation 1 shows: an edge above its largest singular value in 99 of 100 cases, and its largest ones.

    The edge is Johnstone's (Annals of Statistics 29, 2001); the `count` largest values [count], descending, stand at
    their quantiles (i - 1/2) / min(rows, columns) of the law of Marchenko and Pastur.
    """
    short, long = sorted((rows, columns))
    a, b = math.sqrt(long - 1), math.sqrt(short)
    edge = math.sqrt((a + b) ** 2 + _TRACY_WIDOM_99 * (a + b) * (1 / a + 1 / b) ** (1 / 3)) if a > 0 else math.nan
    beta = short / long
    low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2
    angle = np.linspace(0, np.pi, 4001)  # eigenvalues low ... high, dense at both ends
    x = low + (high - low) * (1 - np.cos(angle)) / 2
    weight = np.divide(np.sin(angle) ** 2, x, out=np.full_like(x, 4 / high if low == 0 else 0.0), where=x > 1e-300)
    total = np.concatenate([[0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    places = 1 - (np.arange(1, count + 1) - 0.5) / short
    return edge, np.sqrt(long * np.interp(places, total / total[-1], x))


def noise_edge(s, rows: int, columns: int) -> np.ndarray:
    """The upper edge of the noise in spectra [..., k] of rows x columns matrices, [...]; 0 where they show no noise.

    The test of Kritchman and Nadler (IEEE Trans. Signal Process. 57, 2009), with the deviation of the noise from what
    is seen of it: j singular values are signal, j = 0, 1, ..., until s_(j+1) is below the edge of noise of the shape
    (rows - j) x (columns - j) whose 2nd, 3rd, ... largest values are s_(j+2), ... s_k. Noise must be seen in TAIL
    values at least, so that a rank above k - TAIL cannot be told from k; as many signals of equal size look like noise.
    """
    s = np.asarray(s, dtype=float)
    flat, edges = s.reshape(-1, s.shape[-1]), np.zeros(int(np.prod(s.shape[:-1])))
    seen = (_scaled(flat) >= PADDING).sum(axis=-1) if s.shape[-1] else np.zeros(len(flat), int)
    for k in np.unique(seen[seen >= TAIL]):
        chosen = np.flatnonzero((seen == k) & ~np.isnan(flat).any(axis=-1))
        for j in range(k - TAIL + 1):
            if min(rows, columns) - j < k - j or not chosen.size:
                break
            edge, largest = bulk(rows - j, columns - j, k - j)
            deviation = (flat[chosen, j + 1 : k] / largest[1:]).mean(axis=-1)
            found = flat[chosen, j] <= edge * deviation
            edges[chosen[found]] = (edge * deviation)[found]
            chosen = chosen[~found]
    return _keep_nan(s, edges.reshape(s.shape[:-1]))


def noise_edge_rank(s, rows: int, columns: int, edge=None) -> np.ndarray:
    """Number of singular values above the noise (noise_edge of s unless given, [...]); where no noise shows, or a lower
    one, above LEAST of the largest.

    Two levels need not show the noise of one bulk: what a client's own term holds of it is larger than what is left in a
    common term that is averaged over clients. The test then finds none, and says so by the rank that it falls back to.
    """
    s = np.asarray(s, dtype=float)
    if s.shape[-1] == 0:
        return np.zeros(s.shape[:-1])
    edge = noise_edge(s, rows, columns) if edge is None else np.asarray(edge, dtype=float)
    floor = np.maximum(edge, LEAST * s.max(axis=-1))
    return _keep_nan(s, np.where(np.isnan(edge), np.nan, (s > floor[..., None]).sum(axis=-1)))


# Every measure by the name that tables and figures show.
MEASURES = {
    "numerical rank (1e-2)": lambda s: numerical_rank(s, 1e-2),
    "numerical rank (1e-3)": lambda s: numerical_rank(s, 1e-3),
    "energy rank (90%)": lambda s: energy_rank(s, 0.9),
    "energy rank (95%)": lambda s: energy_rank(s, 0.95),
    "energy rank (99%)": lambda s: energy_rank(s, 0.99),
    "stable rank": stable_rank,
    "entropy rank": entropy_rank,
    "participation ratio": participation_ratio,
    "gap rank": gap_rank,
}
NOISE_EDGE = "noise-edge rank"  # the measure that needs the shape of the matrices


def measures(s) -> dict[str, np.ndarray]:
    """All rank measures of s [..., k] that need no shape, each [...]."""
    return {name: measure(s) for name, measure in MEASURES.items()}
