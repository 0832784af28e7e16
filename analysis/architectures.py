"""Where the sites of adapters.h5 stand in transformers' models, a row a model_type; one LoRA of several sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .loader import Pair


@dataclass(frozen=True)
class Architecture:
    """How transformers builds a model_type around the base model, whose module names the sites are."""

    body: str  # the base model's name inside a model with a head
    language_model: bool = False  # adapters without any head belong to AutoModelForCausalLM
    classifier: str = ""  # the one linear layer that AutoModelForSequenceClassification puts on what `reads` names
    reads: str = ""  # a value of the option pooling
    dense: str = ""  # the function in torch of the dense layer that a head of the family has before its scores
    transposed: bool = False  # weights stand as [in, out], and PEFT is told so (fan_in_fan_out)
    fused: tuple[str, tuple[str, ...]] = ("", ())  # a module whose outputs are these parts, [hidden] each, end to end


# RoBERTa's, DistilBERT's and DeBERTa's heads have a further layer before the last one: they are no `classifier`.
ARCHITECTURES = {
    "bert": Architecture("bert", classifier="classifier", reads="pooler"),
    "roberta": Architecture("roberta", dense="tanh"),
    "xlm-roberta": Architecture("roberta"),
    "distilbert": Architecture("distilbert", dense="nn.functional.relu"),
    "deberta-v2": Architecture("deberta", dense="nn.functional.gelu"),
    "llama": Architecture("model", language_model=True),
    "qwen2": Architecture("model", language_model=True),
    "gpt2": Architecture("transformer", language_model=True, transposed=True,
                         fused=("c_attn", ("query", "key", "value"))),
}


def by_module(pairs: dict[str, Pair], architecture: Architecture) -> dict[str, Pair]:
    """Pairs of one scale by site (no client axis) by module of the base model: parts of a fused module become one."""
    name, parts = architecture.fused
    found: dict[str, Pair] = {}
    fused: dict[str, dict[str, Pair]] = {}
    for site, pair in pairs.items():
        module, _, part = site.rpartition(".")
        if name and module.endswith(f".{name}") and part in parts:
            fused.setdefault(module, {})[part] = pair
        else:
            found[site] = pair
    return found | {module: _placed(given, parts) for module, given in fused.items()}


def folded(pair: Pair) -> Pair:
    """The same update at scale 1: the scale is in up."""
    return Pair(pair.down.astype(np.float64), pair.scale * pair.up.astype(np.float64), 1.0)


def beside(pairs: list[Pair]) -> Pair:
    """Pairs of one matrix and one scale as one whose update is their sum: down [sum of r, in], up [out, sum of r]."""
    down = np.concatenate([pair.down for pair in pairs])
    return Pair(down, np.concatenate([pair.up for pair in pairs], axis=1), pairs[0].scale)


def _placed(given: dict[str, Pair], parts: tuple[str, ...]) -> Pair:
    """Pairs of some of the parts, each with `out` outputs, as one: down stacked, up [len(parts) * out, sum of r]."""
    blocks = []
    for i, part in enumerate(parts):
        if part in given:
            pair = given[part]
            out, rank = pair.up.shape
            up = np.zeros((len(parts) * out, rank))
            up[i * out : (i + 1) * out] = pair.up
            blocks.append(Pair(pair.down, up, pair.scale))
    return beside(blocks)
