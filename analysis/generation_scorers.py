"""The field's own scorers of generated texts: BLEU (sacrebleu), NIST, and METEOR, ROUGE-L, CIDEr (COCO captions)."""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from .mteval import nist

INSTALL = ".venv/bin/python -m pip install --requirement analysis/requirements-generation.txt"
INSTALL_JAVA = "apt-get install default-jre-headless (on Debian or Ubuntu)"
NAMES = ("BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr")
_COCO = NAMES[2:]


@dataclass(frozen=True)
class Example:
    """A generated text, the texts that it is held against, and its client where it has one."""

    hypothesis: str
    references: tuple[str, ...]
    client: int | None = None


Scorer = Callable[[list[int]], float]  # from the numbers of examples to the score of these alone


def missing(name: str) -> str | None:
    """What a score lacks here, and the command that installs it; None where nothing is missing."""
    package = {"BLEU": "sacrebleu", "NIST": None}.get(name, "pycocoevalcap")
    if package and importlib.util.find_spec(package) is None:
        return f"the Python package {package} is missing; install it with: {INSTALL}"
    if name in _COCO and shutil.which("java") is None:
        return f"Java (the program java) is missing; install it with: {INSTALL_JAVA}"
    return None


def scorers(examples: list[Example], names=NAMES) -> tuple[dict[str, Scorer], dict[str, str]]:
    """A scorer for each name, and why there is none for others."""
    lacking = {name: why for name in names if (why := missing(name))}
    there = [name for name in names if name not in lacking]
    found: dict[str, Scorer] = {}
    if "BLEU" in there:
        found["BLEU"] = lambda chosen: _bleu([examples[i] for i in chosen])
    if "NIST" in there:
        found["NIST"] = lambda chosen: nist([(examples[i].hypothesis, list(examples[i].references)) for i in chosen])
    coco = [name for name in there if name in _COCO]
    if coco and examples:
        try:
            found |= _coco_scorers(examples, coco)
        except (OSError, RuntimeError, ValueError) as error:
            lacking |= {name: f"Java or pycocoevalcap failed ({error})" for name in coco}
    return {name: found[name] for name in names if name in found}, lacking


def _bleu(examples: list[Example]) -> float:
    """BLEU-4 of a corpus, 0 to 1, in lower case, tokens and closest reference as in mteval-v13a, without smoothing."""
    from sacrebleu.metrics import BLEU

    if not examples:
        return math.nan
    most = max(len(example.references) for example in examples)
    streams = [[example.references[i] if i < len(example.references) else None for example in examples]
               for i in range(most)]
    metric = BLEU(lowercase=True, tokenize="13a", smooth_method="none", force=True)
    return metric.corpus_score([example.hypothesis for example in examples], streams).score / 100


def _coco_scorers(examples: list[Example], names: list[str]) -> dict[str, Scorer]:
    """Scorers of pycocoevalcap on tokens of the Penn Treebank without punctuation, made once for all examples."""
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def tokenised(texts: dict[int, list[str]]) -> dict[int, list[str]]:
        found = PTBTokenizer().tokenize({i: [{"caption": text} for text in given] for i, given in texts.items()})
        if [len(found.get(i, ())) for i in texts] != [len(given) for given in texts.values()]:
            raise RuntimeError("the tokenizer returned another number of texts")
        return found

    answers = tokenised({i: [example.hypothesis] for i, example in enumerate(examples)})
    references = tokenised({i: list(example.references) for i, example in enumerate(examples)})

    def scorer(metric) -> Scorer:
        def score(chosen: list[int]) -> float:
            if not chosen:
                return math.nan
            return float(metric.compute_score({i: references[i] for i in chosen}, {i: answers[i] for i in chosen})[0])
        return score

    made = {"METEOR": Meteor, "ROUGE-L": Rouge, "CIDEr": Cider}
    return {name: scorer(made[name]()) for name in names}
