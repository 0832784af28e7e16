"""Summaries over clients and seeds. NaN values are left out; nothing left gives NaN."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

FEW = 20  # clients below which a correlation's interval is Fisher's, not the bootstrap's
FEWEST = 5  # clients below which a correlation has no interval at all
_RESAMPLES = 1000


def _valid(values) -> np.ndarray:
    values = np.asarray(values, dtype=float).ravel()
    return values[~np.isnan(values)]


def macro_mean(values) -> float:
    """Every client counts the same."""
    values = _valid(values)
    return float(values.mean()) if values.size else math.nan


def weighted_mean(values, weights) -> float:
    """Mean with one weight a client, its number of test examples for instance."""
    values, weights = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    keep = ~np.isnan(values) & ~np.isnan(weights)
    total = weights[keep].sum()
    return float((values[keep] * weights[keep]).sum() / total) if total > 0 else math.nan


def spread(values) -> float:
    """Standard deviation over the clients, which are all there are (divisor N)."""
    values = _valid(values)
    return float(values.std()) if values.size else math.nan


def decile_size(clients: int) -> int:
    """max(1, ceil(clients / 10)), in integers."""
    return max(1, -(-clients // 10))


def worst_decile(values) -> float:
    """Mean of the lowest max(1, ceil(0.1 N)) values."""
    values = np.sort(_valid(values))
    return float(values[: decile_size(values.size)].mean()) if values.size else math.nan


def best_decile(values) -> float:
    """Mean of the highest max(1, ceil(0.1 N)) values."""
    return -worst_decile(-np.asarray(values, dtype=float))


def average_ranks(values) -> np.ndarray:
    """Ranks 1..n of the values, ties sharing their mean rank."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse.ravel()]


def pearson(x, y) -> float:
    """Pearson's r; NaN where undefined, as for values that are the same but for rounding."""
    if len(x) < 2 or constant(x) or constant(y):
        return math.nan
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def constant(values) -> bool:
    """Whether all values are the same but for rounding."""
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def told_apart(values, least: float) -> np.ndarray:
    """Values as they are, or all as their mean where they differ by no more than `least`."""
    values = np.asarray(values, dtype=float)
    known = _valid(values)
    if not known.size or np.ptp(known) > least:
        return values
    return np.where(np.isnan(values), np.nan, known.mean())


def fisher_interval(value: float, n: int, rank: bool) -> tuple[float, float]:
    """95% interval of a correlation by Fisher's z, NaN for n < FEWEST.

    The variance of z is 1 / (n - 3), for Spearman's rho (rank) (1 + rho^2 / 2) / (n - 3) (Bonett and Wright 2000). Where
    all points are in one line z is infinite: the inner end is then that of the largest rho below 1 of n values.
    """
    if math.isnan(value) or n < FEWEST:
        return math.nan, math.nan
    if abs(value) > 1 - 1e-12:
        inner, _ = fisher_interval(1 - 12 / (n * (n**2 - 1)), n, rank)
        return (inner, 1.0) if value > 0 else (-1.0, -inner)
    half = 1.959964 * math.sqrt((1 + value**2 / 2 if rank else 1) / (n - 3))
    return math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)


def spearman(x, y) -> tuple[float, float, float, int]:
    """Spearman's rho, its 95% interval (low, high) by Fisher's z, and n; NaN where undefined."""
    x, y = _both(x, y)
    rho = _correlate(x, y, True)
    return rho, *fisher_interval(rho, len(x), True), len(x)


def _both(x, y) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    keep = ~np.isnan(x) & ~np.isnan(y)
    return x[keep], y[keep]


def _correlate(x, y, rank: bool) -> float:
    return math.nan if len(x) and (constant(x) or constant(y)) else pearson(
        *(map(average_ranks, (x, y)) if rank else (x, y)))


@dataclass(frozen=True)
class Correlation:
    """A correlation and its 95% interval (NaN: none can be given) over n clients, or over seeds of them."""

    value: float
    low: float
    high: float
    clients: int
    seeds: int = 1

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def correlation(x, y, rank: bool) -> Correlation:
    """Spearman's rho (rank) or Pearson's r over clients, with the percentile bootstrap over clients as its interval.

    Below FEW clients fisher_interval.
    """
    x, y = _both(x, y)
    value, n = _correlate(x, y, rank), len(x)
    if n < FEW or math.isnan(value):
        return Correlation(value, *fisher_interval(value, n, rank), n)
    times = _resampled(n)
    x, y = (_resampled_ranks(v, times) if rank else v for v in (x, y))
    x, y = (v - (times * v).sum(axis=1, keepdims=True) / n for v in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (times * x * y).sum(axis=1) / np.sqrt((times * x**2).sum(axis=1) * (times * y**2).sum(axis=1))
    return Correlation(value, *map(float, np.nanpercentile(values, [2.5, 97.5])), n)


@functools.lru_cache(maxsize=8)
def _resampled(n: int) -> np.ndarray:
    """How often each of n clients is drawn, [resample, n]."""
    return np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)


def _resampled_ranks(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """average_ranks of each client's value among those drawn, [resample, n]."""
    kinds, which = np.unique(values, return_inverse=True)
    counts = times @ np.eye(len(kinds), dtype=int)[which]
    return (np.cumsum(counts, axis=1) - (counts - 1) / 2)[:, which]


def correlation_over_seeds(pairs, rank: bool) -> Correlation:
    """The correlation of one seed's (x, y), or the mean of those of several with its t-interval, cut at -1 and 1.

    Seeds in which it is undefined are left out.
    """
    pairs = [_both(x, y) for x, y in pairs]
    if len(pairs) == 1:
        return correlation(*pairs[0], rank)
    values = [_correlate(x, y, rank) for x, y in pairs]
    mean, half, seeds = mean_interval(values)
    clients = min((len(x) for (x, _), value in zip(pairs, values) if not math.isnan(value)), default=0)
    return Correlation(mean, max(-1.0, mean - half) if seeds > 1 else math.nan,
                       min(1.0, mean + half) if seeds > 1 else math.nan, clients, seeds)


def spread_ratio(values, others, resamples: int = 1999) -> tuple[float, float]:
    """Variance over clients of `values` over that of `others`, and the one-sided p-value that it is no larger.

    Both are lists of arrays [client], one a seed; a variance is the mean square around each seed's own mean. Permutation
    test: deviations change places between the two, all of which is possible where their spread is the same (Good 2005).
    NaN where either has no spread at all, or fewer than 2 clients.
    """
    parts = [[_valid(v) for v in group] for group in (values, others)]
    parts = [[v - v.mean() for v in group if v.size > 1] for group in parts]
    if not all(parts):
        return math.nan, math.nan
    freedom = [sum(v.size - 1 for v in group) for group in parts]
    squares = [np.concatenate(group) ** 2 for group in parts]
    total, first = np.concatenate(squares), len(squares[0])
    if not (squares[0] > 0).any() and not (squares[1] > 0).any():
        return math.nan, math.nan

    def ratio(order):
        above, below = total[order[:first]].sum() / freedom[0], total[order[first:]].sum() / freedom[1]
        return above / below if below > 0 else math.inf

    seen = ratio(np.arange(total.size))
    rng = np.random.default_rng(total.size)
    larger = sum(ratio(rng.permutation(total.size)) >= seen * (1 - 1e-12) for _ in range(resamples))
    return float(seen), (1 + larger) / (1 + resamples)


def t_quantile(degrees: int, confidence: float = 0.95) -> float:
    """Two-sided quantile of Student's t: P(|T| <= t) = confidence, by bisection on the distribution function."""
    low, high = 0.0, 1.0
    while _t_within(high, degrees) < confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def _t_within(t: float, n: int) -> float:
    """P(|T| <= t) for n degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(n))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine, cosine) if n % 2 else (1.0, 1.0)
    for k in range(3 if n % 2 else 2, n - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    if n % 2 == 0:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if n > 1 else 0.0))


def mean_interval(values) -> tuple[float, float, int]:
    """Mean, half-width of its 95% t-interval (NaN for fewer than two) and n."""
    values = _valid(values)
    if values.size == 0:
        return math.nan, math.nan, 0
    if values.size == 1:
        return float(values[0]), math.nan, 1
    half = t_quantile(values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean()), float(half), int(values.size)
