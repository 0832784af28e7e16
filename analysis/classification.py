"""Scores of confusion matrices [..., class, predicted class] over examples; leading axes are kept, NaN stays NaN."""

from __future__ import annotations

import numpy as np


def _ratio(above, below, otherwise: float) -> np.ndarray:
    """above / below, and `otherwise` where below is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=float), np.asarray(below, dtype=float))
    return np.where(below == 0, otherwise, np.divide(above, np.where(below == 0, 1, below)))


def accuracy(confusion) -> np.ndarray:
    """Share of examples on the diagonal; NaN without examples."""
    c = np.asarray(confusion, dtype=float)
    return _ratio(np.trace(c, axis1=-2, axis2=-1), c.sum(axis=(-2, -1)), np.nan)


def mcc(confusion) -> np.ndarray:
    """Matthews correlation, R_K for more than two classes (Gorodkin 2004).

    NaN where all labels are of one class, whose correlation with anything is 0/0, and without examples; 0 where the
    answers alone are of one class, which then tell nothing of the labels.
    """
    c = np.asarray(confusion, dtype=float)
    total, right = c.sum(axis=(-2, -1)), np.trace(c, axis1=-2, axis2=-1)
    labels, answers = c.sum(axis=-1), c.sum(axis=-2)
    together = right * total - (labels * answers).sum(axis=-1)
    spread = np.sqrt((total**2 - (labels**2).sum(axis=-1)) * (total**2 - (answers**2).sum(axis=-1)))
    return np.where(labels.max(axis=-1) == total, np.nan, _ratio(together, spread, 0.0))


def f1(confusion, positive: int = 1) -> np.ndarray:
    """F1 of one class: 2 TP / (2 TP + FP + FN); NaN where the class is neither among the labels nor the answers."""
    c = np.asarray(confusion, dtype=float)
    hit = c[..., positive, positive]
    return _ratio(2 * hit, c[..., positive, :].sum(axis=-1) + c[..., :, positive].sum(axis=-1), np.nan)


def macro_f1(confusion) -> np.ndarray:
    """Mean of F1 over the classes that are among the labels or the answers; NaN without examples."""
    c = np.asarray(confusion, dtype=float)
    scores = np.stack([f1(c, k) for k in range(c.shape[-1])], axis=-1)
    there = ~np.isnan(scores)
    total = np.where(there, scores, 0).sum(axis=-1)
    return np.where(np.isnan(c).any(axis=(-2, -1)), np.nan, _ratio(total, there.sum(axis=-1), np.nan))
