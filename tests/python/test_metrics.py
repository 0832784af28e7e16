"""Scores of GLUE and SQuAD: worked numbers, definitions by examples, and the rules of SQuAD's official script."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

from analysis import metrics  # noqa: E402


def test_a_worked_binary_case():
    # TN 5, FP 1, FN 2, TP 2
    labels = [0] * 6 + [1] * 4
    answers = [0] * 5 + [1] + [0] * 2 + [1] * 2
    assert metrics.confusion(labels, answers).tolist() == [[5, 1], [2, 2]]
    assert metrics.glue("MRPC", labels, answers) == {"f1": pytest.approx(4 / 7), "accuracy": pytest.approx(0.7)}
    assert metrics.glue("CoLA", labels, answers) == {"mcc": pytest.approx(8 / np.sqrt(3 * 4 * 6 * 7))}
    assert list(metrics.glue("qqp", labels, answers)) == ["f1", "accuracy"]
    assert metrics.glue("SST-2", labels, answers) == metrics.glue("sst_2", labels, answers) == {"accuracy": 0.7}


def test_accuracy_and_correlation_are_their_definitions():
    random = np.random.default_rng(7)
    for _ in range(20):
        labels, answers = random.integers(0, 2, (2, 30))
        assert metrics.accuracy(labels, answers) == pytest.approx(np.mean(labels == answers))
        if np.ptp(labels) and np.ptp(answers):
            assert metrics.mcc(labels, answers) == pytest.approx(np.corrcoef(labels, answers)[0, 1], abs=1e-12)
        x, y = random.normal(size=(2, 30))
        assert metrics.pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
        ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
        assert metrics.spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)


def test_equal_numbers_share_the_mean_of_their_ranks():
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 over sqrt(4.5 * 5)
    assert metrics.glue("STS-B", [0, 2, 2, 5], [0.1, 0.2, 0.3, 0.4])["spearman"] == pytest.approx(4.5 / 22.5**0.5)


def test_scores_are_those_of_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(8)
    for share in (0, 0.05, 0.5, 1):
        for _ in range(5):
            labels, answers = (random.random((2, 12)) < share).astype(int)
            assert metrics.f1(labels, answers) == pytest.approx(reference.f1_score(labels, answers, zero_division=0))
            assert metrics.mcc(labels, answers) == pytest.approx(reference.matthews_corrcoef(labels, answers))
            assert metrics.accuracy(labels, answers) == pytest.approx(reference.accuracy_score(labels, answers))


def test_what_has_no_score_is_nan_and_a_class_that_never_occurs_scores_0():
    for score in (metrics.accuracy, metrics.f1, metrics.mcc, metrics.pearson, metrics.spearman):
        assert np.isnan(score([], []))
    assert metrics.f1([0, 0], [0, 0]) == 0
    assert np.isnan(metrics.pearson([1, 1, 1], [1, 2, 3])) and np.isnan(metrics.spearman([1, 2, 3], [2, 2, 2]))


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="GLUE has no task 'snli'; it has cola"):
        metrics.glue("snli", [0], [0])
    for score in (metrics.accuracy, metrics.pearson):
        with pytest.raises(ValueError, match="no two rows of the same length"):
            score([0, 1], [0])
    with pytest.raises(ValueError, match="1 answers to 2 questions"):
        metrics.squad(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="probabilities of no answer for 1 questions"):
        metrics.squad(["a"], [["a"]], [0.1, 0.2])


@pytest.mark.parametrize(("text", "wanted"), [
    ("The  Cat,\tsat.", "cat sat"),
    ("a an the", ""),
    ("Theatre of Athens", "theatre of athens"),  # articles are whole words
    ("U.S.A.", "usa"),  # punctuation goes without a space in its place ...
    ("well-known", "wellknown"),
    ("the-cat", "thecat"),  # ... and before articles do, of which none is left here
    ("it's 3.5%", "its 35"),
    ("“quoted” – dash", "“quoted” – dash"),  # ASCII punctuation only
])
def test_texts_are_normalised_as_officially(text, wanted):
    assert metrics.normalised(text) == wanted


def test_exact_match_and_f1_of_words():
    assert metrics.exact_match("The Norman Conquest!", "norman conquest") == 1
    assert metrics.exact_match("Norman", "norman conquest") == 0
    assert metrics.token_f1("the Norman conquest of England", "Norman Conquest") == pytest.approx(2 * 2 / (4 + 2))
    # A word counts as often as both have it: one "very" of two, and "big".
    assert metrics.token_f1("very big", "very very big dog") == pytest.approx(2 * 2 / (2 + 4))
    assert metrics.token_f1("cat", "dog") == 0
    assert metrics.token_f1("", "dog") == 0 and metrics.token_f1("cat", "") == 0 and metrics.token_f1("the", "") == 1


def test_of_several_answers_the_best_counts_for_each_score():
    found = metrics.squad(["in Paris", "1990"], [["Paris, France", "Paris"], ["1991"]])
    assert found == {"exact": 0, "f1": pytest.approx((2 * 1 / 3 + 0) / 2)}
    assert metrics.squad(["paris."], [["Rome", "Paris"]]) == {"exact": 1, "f1": 1}


def test_questions_without_an_answer_want_none():
    found = metrics.squad(["", "something", "", "cat"], [[], [], ["dog"], ["the cat"]])
    assert found == {"exact": 0.5, "f1": 0.5, "answerable_exact": 0.5, "answerable_f1": 0.5, "unanswerable_exact": 0.5,
                     "unanswerable_f1": 0.5}


def test_an_answer_above_the_threshold_is_none():
    answers, wanted, none = ["cat", "cat", "cat"], [["cat"], [], ["cat"]], [0.1, 0.9, 0.95]
    assert metrics.squad(answers, wanted)["exact"] == pytest.approx(2 / 3)
    assert metrics.squad(answers, wanted, none, threshold=0.5)["exact"] == pytest.approx(2 / 3)  # the third is lost
    assert metrics.squad(answers, wanted, none, threshold=0.9)["exact"] == pytest.approx(1 / 3)  # above, not at


def test_the_best_threshold_is_the_one_that_a_search_finds():
    random = np.random.default_rng(9)
    for _ in range(50):
        words = ["cat", "dog", "", "a big cat"]
        answers = [words[i] for i in random.integers(0, 4, 8)]
        wanted = [[words[i]] if words[i] else [] for i in random.integers(0, 4, 8)]
        none = random.permutation(8) / 8 + 0.01  # all different
        found = metrics.squad(answers, wanted, none)
        tried = [metrics.squad(answers, wanted, none, threshold) for threshold in (0, *sorted(none))]
        for name in ("exact", "f1"):
            scores = [one[name] for one in tried]
            assert found[f"best_{name}"] == pytest.approx(max(scores))
            best = (0, *sorted(none))[int(np.argmax(np.array(scores) > max(scores) - 1e-12))]
            assert found[f"best_{name}_threshold"] == pytest.approx(best)
