"""Summaries over clients and seeds. NaN values are left out; nothing left gives NaN."""

from __future__ import annotations

import math

import numpy as np


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


def spearman(x, y) -> tuple[float, float, float, int]:
    """Spearman's rho, its 95% interval (low, high) and n; NaN where undefined (constant values, n too small).

    Interval: Fisher's z with variance (1 + rho^2 / 2) / (n - 3) (Bonett and Wright 2000).
    """
    x, y = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    keep = ~np.isnan(x) & ~np.isnan(y)
    x, y, n = x[keep], y[keep], int(keep.sum())
    if n < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan, math.nan, n
    rho = float(np.clip(np.corrcoef(average_ranks(x), average_ranks(y))[0, 1], -1, 1))
    if n < 5 or abs(rho) == 1:
        return rho, math.nan, math.nan, n
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), n


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
