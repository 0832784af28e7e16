"""Rank measures of singular values s [..., k] along the last axis; leading axes are kept.

Zero spectra, and spectra of length 0, have rank 0 in every measure; a spectrum with a NaN has rank NaN.
"""

from __future__ import annotations

import numpy as np


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
}


def measures(s) -> dict[str, np.ndarray]:
    """All rank measures of s [..., k], each [...]."""
    return {name: measure(s) for name, measure in MEASURES.items()}
