"""Generation: a prompt and what is to be written after it, as one sequence of tokens.

The sequence is that of the fine-tuning of GPT-2 by Hu et al. 2021 (arXiv 2106.09685): prompt, end-of-text token, a
space and the target, end-of-text token. A model with another token at the beginning than at the end (Llama) gets it
first.
"""

from __future__ import annotations

import numpy as np
from prepare_rows import SPLIT_NAMES, InputError, Refusal, Row
from prepare_tokens import BATCH, Item, Model, Progress, Tokens, check_vocabulary, ends_of, joined
from tokenizers import Tokenizer


def space_of(tokenizer: Tokenizer) -> str:
    """What stands before a target: a space, but for tokenizers that put one before every text themselves."""
    first = tokenizer.encode("a", add_special_tokens=False).tokens
    return "" if first and first[0].startswith(("\u2581", "\u0120")) else " "


class Items:
    """Prompts of each split, in the order in which rows name them."""

    def __init__(self, rows: list[Row]) -> None:
        self.references: dict[tuple[int, str], dict[str, None]] = {}
        for row in rows:
            self.references.setdefault((row.split, row.text), {})[row.target or ""] = None
        self.index: dict[tuple[int, str], int] = {}
        self.items: list[Item] = []
        self.count = [0] * len(SPLIT_NAMES)

    def of(self, row: Row) -> int:
        key = (row.split, row.text)
        if key not in self.index:
            self.count[row.split] += 1
            number = f"{SPLIT_NAMES[row.split]}-{self.count[row.split]}"
            self.index[key] = len(self.items)
            self.items.append(Item(number, row.text, list(self.references[key])))
        return self.index[key]


def tokenize_targets(model: Model, rows: list[Row], max_length: int) -> tuple[Tokens, list[Row], list[Refusal]]:
    """Prompts that are too long lose their left end; a row whose target does not fit is refused."""
    if model.end is None:
        raise InputError(
            f"the config.json of {model.name} names no eos_token_id, which ends prompt and target; generation needs "
            "a decoder such as GPT-2"
        )
    tokenizer = model.tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    space = space_of(tokenizer)
    begin = [] if model.begin is None else [model.begin]
    items = Items(rows)
    kept: list[Row] = []
    refused: list[Refusal] = []
    pieces: list[np.ndarray] = []
    targets: list[int] = []
    item: list[int] = []
    cut = 0
    progress = Progress(len(rows))
    try:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            texts = [space + (row.target or "") for row in batch]
            prompts = tokenizer.encode_batch_fast([row.text for row in batch], add_special_tokens=False)
            written = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for row, prompt, target in zip(batch, prompts, written):
                room = max_length - len(begin) - len(target.ids) - 2
                if not prompt.ids or not target.ids:
                    refused.append(Refusal(row.where, row.line, "text without a token"))
                elif room < 1:
                    refused.append(Refusal(row.where, row.line, f"target too long for --max-length {max_length}"))
                else:
                    before = [*begin, *prompt.ids[-room:], model.end]
                    cut += len(prompt.ids) > room
                    kept.append(row)
                    pieces.append(np.asarray([*before, *target.ids, model.end], np.int32))
                    targets.append(len(before))
                    item.append(items.of(row))
            progress.add(len(batch))
    finally:
        progress.close()
    tokens = Tokens(joined(pieces, np.int32), ends_of(pieces), cut)
    tokens.columns = {"target": np.asarray(targets, np.int32), "item": np.asarray(item, np.int32)}
    tokens.items = items.items
    if cut:
        tokens.notes.append(f"prompts cut from their left to fit {max_length} tokens: {cut}; see --max-length")
    tokens.notes.append(f"{len(items.items)} prompts with {len(kept)} targets")
    check_vocabulary(model, tokens)
    return tokens, kept, refused
