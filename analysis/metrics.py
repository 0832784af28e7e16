"""Scores of GLUE's tasks and of SQuAD from predictions, all from 0 to 1 (correlations from -1).

python -m analysis.metrics RUN [--output DIR]: exact match and F1 of the spans that a run's clients found.
"""

from __future__ import annotations

import re
import string
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
import scipy.stats

from . import classification


def confusion(labels, answers, classes: int | None = None) -> np.ndarray:
    """Counts [class, predicted class] of labels [N] and answers [N], whole numbers from 0."""
    labels, answers = np.asarray(labels, dtype=np.int64), np.asarray(answers, dtype=np.int64)
    _same_length(labels, answers)
    classes = classes or 1 + int(max(labels.max(initial=0), answers.max(initial=0)))
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, answers), 1)
    return counts


def accuracy(labels, answers) -> float:
    """NaN without examples, as all of these."""
    return float(classification.accuracy(confusion(labels, answers)))


def f1(labels, answers) -> float:
    """Of class 1 of two; 0 where it is neither among the labels nor the answers."""
    return _as_scikit_learn(classification.f1, confusion(labels, answers, 2))


def mcc(labels, answers) -> float:
    """Matthews correlation; 0 where all labels are of one class."""
    return _as_scikit_learn(classification.mcc, confusion(labels, answers))


def _as_scikit_learn(score, counts: np.ndarray) -> float:
    """A score of counts, and 0 where it is 0/0 of some examples."""
    value = float(score(counts))
    return 0.0 if np.isnan(value) and counts.any() else value


def pearson(labels, answers) -> float:
    """Correlation of two rows of numbers; NaN where one of them is constant, and for fewer than two examples."""
    return _correlation(scipy.stats.pearsonr, labels, answers)


def spearman(labels, answers) -> float:
    """Pearson's correlation of ranks, equal numbers sharing the mean of theirs."""
    return _correlation(scipy.stats.spearmanr, labels, answers)


def _correlation(function, labels, answers) -> float:
    labels, answers = np.asarray(labels, dtype=float), np.asarray(answers, dtype=float)
    _same_length(labels, answers)
    if len(labels) < 2 or np.ptp(labels) == 0 or np.ptp(answers) == 0:
        return float("nan")
    return float(function(labels, answers).statistic)


def _same_length(labels: np.ndarray, answers: np.ndarray) -> None:
    if labels.ndim != 1 or labels.shape != answers.shape:
        raise ValueError(f"labels {labels.shape} and answers {answers.shape} are no two rows of the same length")


# Wang et al., GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding, ICLR 2019.
GLUE = {
    "cola": (mcc,), "sst2": (accuracy,), "mrpc": (f1, accuracy), "stsb": (pearson, spearman), "qqp": (f1, accuracy),
    "mnli": (accuracy,), "qnli": (accuracy,), "rte": (accuracy,), "wnli": (accuracy,),
}


def glue(task: str, labels, answers) -> dict[str, float]:
    """The scores of a task by name (sst2, SST-2 and sst_2 alike), the one it is ranked by first. Throws ValueError."""
    name = re.sub(r"[^a-z0-9]", "", task.lower())
    if name not in GLUE:
        raise ValueError(f"GLUE has no task '{task}'; it has {', '.join(GLUE)}")
    return {score.__name__: score(labels, answers) for score in GLUE[name]}


# --- SQuAD: Rajpurkar et al. 2016 (arXiv 1606.05250) and, with questions that have no answer, 2018 (arXiv 1806.03822).

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """In lower case, without ASCII punctuation, without articles, single spaces: in this order, as officially."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, wanted: str) -> float:
    """1 where both are the same when normalised, else 0."""
    return float(normalised(answer) == normalised(wanted))


def token_f1(answer: str, wanted: str) -> float:
    """F1 of the words that both have, as often as both; where one is empty, whether both are."""
    given, expected = normalised(answer).split(), normalised(wanted).split()
    if not given or not expected:
        return float(given == expected)
    shared = sum((Counter(given) & Counter(expected)).values())
    return 2 * shared / (len(given) + len(expected))


@dataclass(frozen=True)
class SquadExamples:
    """Scores by question [N] of the texts that were given, and where (bool) there is an answer to give, or was one."""

    exact: np.ndarray
    f1: np.ndarray
    answerable: np.ndarray
    answered: np.ndarray


def squad_examples(answers: list[str], wanted: list[list[str]]) -> SquadExamples:
    """Of each question the best over its answers; no answer is "" where given, and [] where wanted."""
    if len(answers) != len(wanted):
        raise ValueError(f"{len(answers)} answers to {len(wanted)} questions")
    kept = [[text for text in texts if normalised(text)] or [""] for texts in wanted]

    def best(score):
        return np.array([max(score(answer, text) for text in texts) for answer, texts in zip(answers, kept)], float)

    return SquadExamples(best(exact_match), best(token_f1), np.array([any(texts) for texts in wanted], dtype=bool),
                         np.array([answer != "" for answer in answers], dtype=bool))


def squad(answers: list[str], wanted: list[list[str]], no_answer=None, threshold: float = 1.0) -> dict[str, float]:
    """exact and f1, of all and, where there are questions without an answer, of either kind.

    `no_answer` [N] are the model's probabilities that there is none: above `threshold` none counts as given, and the
    scores at the best threshold (best_exact, best_exact_threshold and of f1) are there too. NaN without questions.
    """
    given = squad_examples(answers, wanted)
    scores = {"exact": given.exact, "f1": given.f1}
    if no_answer is not None:
        none = np.asarray(no_answer, dtype=float)
        if none.shape != given.exact.shape:
            raise ValueError(f"{none.shape} probabilities of no answer for {len(answers)} questions")
        scores = {name: np.where(none > threshold, ~given.answerable, values) for name, values in scores.items()}
    found = {name: _mean(values) for name, values in scores.items()}
    if not given.answerable.all():
        for kind, chosen in (("answerable", given.answerable), ("unanswerable", ~given.answerable)):
            found |= {f"{kind}_{name}": _mean(values[chosen]) for name, values in scores.items()}
    if no_answer is not None and len(answers):
        for name, values in (("exact", given.exact), ("f1", given.f1)):
            found[f"best_{name}"], found[f"best_{name}_threshold"] = best_threshold(values, given, none)
    return found


def best_threshold(scores: np.ndarray, given: SquadExamples, no_answer: np.ndarray) -> tuple[float, float]:
    """The highest mean of scores [N] over thresholds of no_answer [N], and the lowest threshold that has it.

    From none given anywhere on (threshold 0), answers are let in by rising probability of no answer: a question that
    has one gains its score, one that has none loses its point where a text was given. Equal probabilities are let in
    one by one, in the order of the questions, as the official script does.
    """
    order = np.argsort(no_answer, kind="stable")
    gains = np.where(given.answerable, scores, -given.answered.astype(float))[order]
    totals = (~given.answerable).sum() + np.concatenate([[0], np.cumsum(gains)])
    best = int(totals.argmax())  # the first of the highest
    return float(totals[best] / len(scores)), float(no_answer[order[best - 1]]) if best else 0.0


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


if __name__ == "__main__":
    from .span_scores import main

    sys.exit(main())
