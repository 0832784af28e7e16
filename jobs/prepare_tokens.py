"""From text to token ids with the tokenizer of a model directory (Hugging Face tokenizers, tokenizer.json)."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from prepare_rows import InputError, Refusal, Row, files_sha256
from tokenizers import Tokenizer
from tqdm import tqdm

BATCH = 1024
# Encoders of these kinds number the positions of real tokens from pad_token_id + 1.
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "longformer"}


@dataclass(frozen=True)
class Model:
    """What is needed of a model: its tokenizer, and what its configuration says about tokens."""

    name: str
    tokenizer: Tokenizer
    tokenizer_sha256: str
    vocabulary_size: int
    positions: int
    token_types: int = 0  # that it tells apart
    begin: int | None = None  # token that opens a text, where it is another than the one that ends it
    end: int | None = None


@dataclass(frozen=True)
class Item:
    """What several rows are about: a question, or the prompt of several references."""

    id: str
    text: str
    references: list[str]


@dataclass
class Tokens:
    """Token ids of all rows end to end: row i holds ids[offsets[i]:offsets[i + 1]], and what else a task stores."""

    ids: np.ndarray
    offsets: np.ndarray
    truncated: int = 0
    types: np.ndarray | None = None  # int8, as ids
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # by name in the file
    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def config_number(config: dict[str, Any], names: tuple[str, ...], path: Path) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    raise InputError(f"{path} names no {' or '.join(names)}; is it the config.json of a transformers model?")


def read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); --model names a folder as transformers saves it") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a JSON object; --model names a folder as transformers saves it")
    return config


def token_of(config: dict[str, Any], name: str, tokenizer: Tokenizer, path: Path) -> int | None:
    """A token that the configuration names, the first where it names several."""
    value = config.get(name)
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, int):
        return None
    if tokenizer.id_to_token(value) is None:
        raise InputError(f"{path} has {name} {value}, which tokenizer.json does not know; they do not belong together")
    return value


def hub_folder(name: str) -> Path:
    """A folder with config.json and tokenizer.json of a model of the Hugging Face hub."""
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=["config.json", "tokenizer.json"]))
    except Exception as error:  # kinds of the hub client and of the network below it
        text = str(error).strip().splitlines()
        raise InputError(
            f"there is no folder '{name}', and no model of that name could be had from the Hugging Face hub "
            f"({type(error).__name__}: {text[0] if text else 'no message'}); jobs/setup.sh makes models/minilm"
        ) from None


def load_model(name: str, folder: Path) -> Model:
    """The model at folder, or of the hub when there is no such folder; throws InputError."""
    if not folder.is_dir():
        folder = hub_folder(name)
    config_path, path = folder / "config.json", folder / "tokenizer.json"
    config = read_config(config_path)
    if not path.is_file():
        raise InputError(
            f"{folder} has no tokenizer.json; transformers makes one: "
            f"AutoTokenizer.from_pretrained('{name}').save_pretrained('{name}')"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{path} is not a tokenizer ({error})") from None
    positions = config_number(config, ("max_position_embeddings", "n_positions"), config_path)
    if config.get("model_type") in OFFSET_POSITIONS:
        positions -= int(config.get("pad_token_id", 1)) + 1
    vocabulary = config_number(config, ("vocab_size",), config_path)
    types = config.get("type_vocab_size", 2 if config.get("model_type") == "bert" else 0)
    end = token_of(config, "eos_token_id", tokenizer, config_path)
    begin = token_of(config, "bos_token_id", tokenizer, config_path)
    return Model(
        name, tokenizer, files_sha256([path]), vocabulary, positions, types if isinstance(types, int) else 0,
        begin if begin != end else None, end,
    )  # fmt: skip


class Progress:
    """A bar in a terminal, else a line every ten seconds, both on standard error."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.next_line = total, 0, time.monotonic() + 10
        self.bar = tqdm(total=total, unit="row", desc="tokenize", disable=not sys.stderr.isatty())

    def add(self, rows: int) -> None:
        self.done += rows
        self.bar.update(rows)
        if self.bar.disable and time.monotonic() >= self.next_line:
            print(f"tokenize: {self.done} of {self.total} rows", file=sys.stderr)
            self.next_line = time.monotonic() + 10

    def close(self) -> None:
        self.bar.close()


def joined(pieces: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.zeros(0, kind)


def ends_of(pieces: list[np.ndarray]) -> np.ndarray:
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return offsets


def check_vocabulary(model: Model, tokens: Tokens) -> None:
    """Throws InputError for tokens or token types that the model has no embeddings for."""
    if tokens.ids.size and int(tokens.ids.max()) >= model.vocabulary_size:
        raise InputError(
            f"the tokenizer of {model.name} gives token {int(tokens.ids.max())}, beyond the model's vocabulary of "
            f"{model.vocabulary_size}; tokenizer.json and config.json do not belong together"
        )
    if tokens.types is not None and tokens.types.size and int(tokens.types.max()) >= model.token_types:
        raise InputError(
            f"the tokenizer of {model.name} gives token type {int(tokens.types.max())}, but config.json has "
            f"type_vocab_size {model.token_types}; tokenizer.json and config.json do not belong together"
        )


def tokenize(model: Model, rows: list[Row], max_length: int) -> tuple[Tokens, list[Row], list[Refusal]]:
    """Token ids with the tokenizer's special tokens, cut to max_length (the longer text of a pair first).

    Also the rows kept, and refusals of those in which nothing but special tokens was found.
    """
    tokenizer = model.tokenizer
    tokenizer.no_padding()  # the file may hold settings of its own for both
    tokenizer.enable_truncation(max_length)
    typed = model.token_types > 1 and any(row.text2 is not None for row in rows)
    kept: list[Row] = []
    refused: list[Refusal] = []
    pieces: list[np.ndarray] = []
    types: list[np.ndarray] = []
    truncated = 0
    progress = Progress(len(rows))
    try:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            texts = [row.text if row.text2 is None else (row.text, row.text2) for row in batch]
            for row, encoding in zip(batch, tokenizer.encode_batch_fast(texts)):
                if all(encoding.special_tokens_mask):
                    refused.append(Refusal(row.where, row.line, "text without a token"))
                    continue
                kept.append(row)
                pieces.append(np.asarray(encoding.ids, np.int32))
                if typed:
                    types.append(np.asarray(encoding.type_ids, np.int8))
                truncated += bool(encoding.overflowing)
            progress.add(len(batch))
    finally:
        progress.close()
    tokens = Tokens(joined(pieces, np.int32), ends_of(pieces), truncated)
    if typed:
        tokens.types = joined(types, np.int8)
    if any(row.value is not None for row in kept):
        tokens.columns["values"] = np.asarray([row.value for row in kept], np.float32)
    if truncated:
        tokens.notes.append(f"rows cut to {max_length} tokens: {truncated}; see --max-length")
    check_vocabulary(model, tokens)
    return tokens, kept, refused
