"""NIST as mteval-v13a computes it, without regard to case: what the E2E challenge's scorer gives for it.

Doddington, Automatic Evaluation of Machine Translation Quality Using N-gram Co-occurrence Statistics, HLT 2002. Every
n-gram of an answer that is in one of its references, at most as often as there, counts with its information
log2(#(w_1 .. w_n-1) / #(w_1 .. w_n)), counted in all references.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

ORDER = 5
_BETA = math.log(0.5) / math.log(1.5) ** 2  # half the score for an answer of two thirds of the length
_ENTITIES = (("<skipped>", ""), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_RULES = tuple((re.compile(pattern), form) for pattern, form in (
    (r"([{-~\[-` -&(-+:-@/])", r" \1 "),  # every sign but ' , - . stands alone
    (r"([^0-9])([.,])", r"\1 \2 "),  # point and comma outside numbers
    (r"([.,])([^0-9])", r" \1 \2"),
    (r"([0-9])(-)", r"\1 \2 "),
))


def tokens(text: str) -> list[str]:
    """The words and signs of a text in lower case, by the rules of mteval-v13a for western languages."""
    for written, meant in _ENTITIES:
        text = text.replace(written, meant)
    text = f" {text} ".lower()
    for pattern, form in _RULES:
        text = pattern.sub(form, text)
    return text.split()


def nist(pairs: list[tuple[str, list[str]]]) -> float:
    """NIST of (answer, references), of 1 to 5 words; NaN without any.

    The length that answers should have is the mean over all references. Where answers have different numbers of them
    this is what the challenge's script (Perl) does; its Python twin takes the mean of each answer's first.
    """
    if not pairs:
        return math.nan
    answers = [tokens(answer) for answer, _ in pairs]
    references = [[tokens(reference) for reference in given] for _, given in pairs]
    counts = Counter(gram for given in references for words in given for gram in _grams(words))
    counts[()] = sum(len(words) for given in references for words in given)
    gained, made = [0.0] * ORDER, [0] * ORDER
    for answer, given in zip(answers, references):
        most = Counter()
        for words in given:
            most |= Counter(_grams(words))
        for gram, count in (Counter(_grams(answer)) & most).items():
            gained[len(gram) - 1] += count * math.log2(counts[gram[:-1]] / counts[gram])
        for n in range(ORDER):
            made[n] += max(len(answer) - n, 0)
    wanted = counts[()] / sum(len(given) for given in references)
    ratio = min(made[0] / len(pairs) / wanted, 1) if wanted else 1
    penalty = math.exp(_BETA * math.log(ratio) ** 2) if ratio else 0
    return penalty * sum(sum_ / max(count, 1) for sum_, count in zip(gained, made))


def _grams(words: list[str]) -> Iterator[tuple[str, ...]]:
    """All runs of 1 to ORDER words."""
    for n in range(1, ORDER + 1):
        yield from zip(*(words[i:] for i in range(n)))
