"""Scores of confusion matrices against worked numbers and against definitions by examples."""

import numpy as np
import pytest

from analysis import classification


def test_a_worked_binary_case():
    # 6 negatives, 4 positives; answers: TN 5, FP 1, FN 2, TP 2
    c = np.array([[5, 1], [2, 2]])
    assert classification.accuracy(c) == pytest.approx(0.7)
    assert classification.f1(c) == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert classification.mcc(c) == pytest.approx((2 * 5 - 1 * 2) / np.sqrt((2 + 1) * (2 + 2) * (5 + 1) * (5 + 2)))


def test_mcc_of_two_classes_is_the_correlation_of_labels_and_answers():
    random = np.random.default_rng(3)
    labels, answers = random.integers(0, 2, 200), random.integers(0, 2, 200)
    c = np.zeros((2, 2))
    np.add.at(c, (labels, answers), 1)
    assert classification.mcc(c) == pytest.approx(np.corrcoef(labels, answers)[0, 1], abs=1e-12)


def test_mcc_of_many_classes_is_the_covariance_of_indicators():
    random = np.random.default_rng(4)
    labels, answers = random.integers(0, 5, 300), random.integers(0, 5, 300)
    c = np.zeros((5, 5))
    np.add.at(c, (labels, answers), 1)
    x, y = np.eye(5)[labels], np.eye(5)[answers]
    x, y = x - x.mean(0), y - y.mean(0)
    assert classification.mcc(c) == pytest.approx((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), abs=1e-12)


def test_labels_of_one_class_have_no_correlation_and_nothing_has_no_score():
    assert np.isnan(classification.mcc([[[7, 0], [0, 0]], [[4, 3], [0, 0]]])).all()
    assert classification.mcc([[3, 0], [2, 0]]) == 0
    for score in (classification.accuracy, classification.mcc, classification.f1, classification.macro_f1):
        assert np.isnan(score(np.zeros((2, 2))))
        assert np.isnan(score(np.full((2, 2), np.nan)))


def test_macro_f1_leaves_out_classes_that_do_not_occur():
    c = np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]])
    assert classification.macro_f1(c) == pytest.approx(0.75)


def test_leading_axes_are_kept():
    c = np.arange(2 * 3 * 4).reshape(2, 3, 2, 2)
    assert classification.mcc(c).shape == (2, 3)
    assert classification.f1(c)[1, 2] == classification.f1(c[1, 2])
