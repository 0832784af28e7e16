"""The share of the core's best rate of products that a plain step reaches."""

import json
import statistics
from pathlib import Path


def flop(model, tokens, examples):
    """Of the products with frozen matrices that no plain step of LoRA on query and value can do without.

    `tokens` and `examples` of a batch. Forward, and back to the input of every matrix under which an adapter stands: in
    the lowest layer not of query, key and value. In the last layer one token of an example asks, and each matrix takes
    a row for it. Low-rank products, attention and everything else are left out.
    """
    shape = json.loads((Path(model) / "config.json").read_text())
    hidden, wide, layers = (shape[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    layer = 4 * hidden**2 + 2 * hidden * wide
    forward_and_back = 2 * (tokens * (layers - 1) + examples) * layer
    return 2 * (forward_and_back - (tokens if layers > 1 else examples) * 3 * hidden**2)


def best_rate(products):
    """FLOP a second over a layer's matrices, by the faster of our product and LibTorch's at each shape."""
    count = [4, 1, 1]  # hidden x hidden, hidden x wide, wide x hidden
    work = [n * p["in"] * p["out"] for n, p in zip(count, products)]
    return sum(work) / sum(w / max(p["ours"], p["torch"]) for w, p in zip(work, products))


def shares(blocks, plain):
    """One a repetition; `plain`: the seconds of its plain steps."""
    return [block["flop"] / sum(seconds) / best_rate(block["products"]) for block, seconds in zip(blocks, plain)]


def line(name, blocks, plain, least):
    """What is told under the table, and whether the target is met; `least`: None without one."""
    values = shares(blocks, plain)
    share = statistics.median(values)
    rate = statistics.median(best_rate(block["products"]) for block in blocks)
    steps = sum(map(len, plain))
    text = (
        f"{name}: a plain step cannot do without {sum(block['flop'] for block in blocks) / steps / 1e9:.2f} GFLOP of"
        f" products and reaches {100 * share:.0f}% ({100 * min(values):.0f} to {100 * max(values):.0f}) of the"
        f" {rate / 1e9:.0f} GFLOP/s of products alone"
    )
    if least is None:
        return text, True
    return f"{text}; target at least {100 * least:.0f}%: {'met' if share >= least else 'MISSED'}", share >= least
