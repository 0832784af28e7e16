"""Answers as spans of a context: windows of (question, context), as run_squad of Devlin et al. 2019 cuts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from prepare_rows import Refusal, Row
from prepare_tokens import BATCH, Item, Model, Progress, Tokens, check_vocabulary, ends_of, joined
from tokenizers import Encoding, Tokenizer

QUESTION_TOKENS = 64  # a longer question is cut, as run_squad does


@dataclass
class Window:
    ids: np.ndarray
    types: np.ndarray
    characters: np.ndarray  # [tokens, 2], -1 outside the context
    span: tuple[int, int] = (0, 0)
    exact: bool = True  # the span is the answer to the character


class Context:
    """Where white space is in a text, so that offsets of tokens leave it out whatever the tokenizer."""

    def __init__(self, text: str) -> None:
        space = np.fromiter((c.isspace() for c in text), bool, len(text))
        places = np.arange(len(text) + 1, dtype=np.int32)
        self.next = np.minimum.accumulate(np.where(np.append(space, False), len(text), places)[::-1])[::-1]
        self.last = np.maximum.accumulate(np.where(np.insert(space, 0, False), 0, places))

    def trimmed(self, offsets: np.ndarray) -> np.ndarray:
        """Offsets [tokens, 2] without white space at their ends; those of white space alone stay."""
        begin, end = self.next[offsets[:, 0]], self.last[offsets[:, 1]]
        return np.where((begin < end)[:, None], np.stack([begin, end], axis=1), offsets)


def cut_question(tokenizer: Tokenizer, questions: list[str], limit: int) -> Iterator[tuple[str, int]]:
    """Questions of at most limit tokens, and how many tokens each has."""
    for question, encoding in zip(questions, tokenizer.encode_batch(questions, add_special_tokens=False)):
        if len(encoding.ids) > limit:
            question = question[: encoding.offsets[limit - 1][1]]
            encoding = tokenizer.encode(question, add_special_tokens=False)
        yield question, len(encoding.ids)


def find_span(characters: np.ndarray, begin: int, end: int) -> tuple[int, int] | None:
    """First and last token that share a character with [begin, end), when the window holds all of it."""
    inside = np.flatnonzero(characters[:, 1] > characters[:, 0])
    if not inside.size or characters[inside[0], 0] > begin or characters[inside[-1], 1] < end:
        return None
    touching = inside[(characters[inside, 1] > begin) & (characters[inside, 0] < end)]
    return (int(touching[0]), int(touching[-1])) if touching.size else None


def window_of(encoding: Encoding, row: Row, context: Context) -> Window:
    second = np.asarray([sequence == 1 for sequence in encoding.sequence_ids])
    offsets = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
    characters = np.full(offsets.shape, -1, np.int32)
    characters[second] = context.trimmed(offsets[second])
    window = Window(np.asarray(encoding.ids, np.int32), np.asarray(encoding.type_ids, np.int8), characters)
    if row.answers:
        begin, text = row.answers[0]
        if found := find_span(characters, begin, begin + len(text)):
            window.span = found
            window.exact = characters[found[0], 0] == begin and characters[found[1], 1] == begin + len(text)
    return window


def windows_of(model: Model, rows: list[Row], max_length: int, stride: int) -> Iterable[tuple[int, list[Window]]]:
    """(row, its windows) in no order: questions of one length are cut together, for they have the same overlap."""
    tokenizer = model.tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    special = tokenizer.num_special_tokens_to_add(True)
    by_length: dict[int, list[tuple[int, str]]] = {}
    for start in range(0, len(rows), BATCH):
        questions = [row.text for row in rows[start : start + BATCH]]
        limit = min(QUESTION_TOKENS, max(1, (max_length - special) // 2))
        for i, (question, length) in enumerate(cut_question(tokenizer, questions, limit), start):
            by_length.setdefault(length, []).append((i, question))
    contexts: dict[str, Context] = {}
    for length, members in by_length.items():
        room = max_length - special - length
        tokenizer.enable_truncation(max_length, stride=max(0, room - stride), strategy="only_second")
        for start in range(0, len(members), BATCH):
            batch = members[start : start + BATCH]
            pairs = [(question, rows[i].text2 or "") for i, question in batch]
            for (i, _), (_, text), encoding in zip(batch, pairs, tokenizer.encode_batch(pairs)):
                if text not in contexts:
                    contexts[text] = Context(text)
                yield i, [window_of(part, rows[i], contexts[text]) for part in (encoding, *encoding.overflowing)]


def tokenize_spans(
    model: Model, rows: list[Row], max_length: int, stride: int
) -> tuple[Tokens, list[Row], list[Refusal]]:  # fmt: skip
    """Windows of max_length tokens, each stride tokens of the context further on than the one before.

    A row is repeated for each of its windows. A question without a token, or a context without one, is refused.
    """
    found: list[list[Window]] = [[] for _ in rows]
    progress = Progress(len(rows))
    try:
        for i, windows in windows_of(model, rows, max_length, stride):
            found[i] = windows
            progress.add(1)
    finally:
        progress.close()
    kept: list[Row] = []
    refused: list[Refusal] = []
    windows: list[Window] = []
    tokens = Tokens(np.zeros(0, np.int32), np.zeros(1, np.int64))
    item: list[int] = []
    split_up = inexact = 0
    for row, parts in zip(rows, found):
        if (parts[0].characters < 0).all():
            refused.append(Refusal(row.where, row.line, "text without a token"))
            continue
        item += [len(tokens.items)] * len(parts)
        references = list(dict.fromkeys(text for _, text in row.answers))
        tokens.items.append(Item(row.question_id, row.text2 or "", references))
        kept += [row] * len(parts)
        windows += parts
        split_up += len(parts) > 1
        inexact += any(not part.exact for part in parts)
    tokens.ids, tokens.offsets = joined([w.ids for w in windows], np.int32), ends_of([w.ids for w in windows])
    tokens.types = joined([w.types for w in windows], np.int8) if model.token_types > 1 else None
    characters = np.concatenate([w.characters for w in windows]) if windows else np.zeros((0, 2), np.int32)
    tokens.columns = {"span": np.asarray([w.span for w in windows], np.int32).reshape(-1, 2),
                      "item": np.asarray(item, np.int32), "token_characters": characters}  # fmt: skip
    if split_up:
        tokens.notes.append(f"questions with several windows: {split_up} of {len(tokens.items)}; see --stride")
    if inexact:
        tokens.notes.append(f"answers that end within a token, whose spans are a little longer: {inexact}")
    check_vocabulary(model, tokens)
    return tokens, kept, refused
