"""Runs jobs/prepare.py and makes small models for it: shared by the tests of what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
MINILM = ROOT / "models" / "minilm"
needs_minilm = pytest.mark.skipif(not MINILM.is_dir(), reason="models/minilm is not set up")

sys.path[:0] = [str(ROOT / "jobs")] if str(ROOT / "jobs") not in sys.path else []


def prepare(*arguments: object, offline: bool = True) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1") if offline else None
    command = [sys.executable, str(ROOT / "jobs" / "prepare.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def made(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = prepare(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def examples(file: h5py.File) -> list[list[int]]:
    tokens, offsets = file["tokens"][:], file["offsets"][:]
    return [tokens[a:b].tolist() for a, b in zip(offsets, offsets[1:])]


def rows_of(file: h5py.File, name: str) -> list[np.ndarray]:
    """The values of a dataset by token, cut into examples."""
    return np.split(file[name][:], file["offsets"][1:-1])


def texts_of(file: h5py.File, name: str) -> list[str]:
    return file[name].asstr()[:].tolist()


def model_folder(folder: Path, tokenizer: Tokenizer, **config: object) -> Path:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 512, **config}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def byte_level(texts: list[str], special: list[str], size: int = 400) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def gpt2_like(folder: Path, texts: list[str], **config: object) -> Path:
    """Byte-level BPE; one token ends texts, as in GPT-2."""
    tokenizer = byte_level(texts, ["<|endoftext|>"])
    return model_folder(folder, tokenizer, **{"model_type": "gpt2", "bos_token_id": 0, "eos_token_id": 0, **config})


def roberta_like(folder: Path, texts: list[str]) -> Path:
    """Byte-level BPE; <s> a </s></s> b </s>, all of type 0."""
    tokenizer = byte_level(texts, ["<s>", "<pad>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    return model_folder(folder, tokenizer, model_type="roberta", type_vocab_size=1, pad_token_id=1)


def bert_like(folder: Path, texts: list[str], **config: object) -> Path:
    """Word pieces of lower-cased text without accents; [CLS] a [SEP] b [SEP], b of type 1."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return model_folder(folder, tokenizer, **{"model_type": "bert", "type_vocab_size": 2, **config})


def deberta_like(folder: Path, texts: list[str]) -> Path:
    """Pieces that begin with the space before them, as SentencePiece has it; type_vocab_size 0."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return model_folder(folder, tokenizer, model_type="deberta-v2", type_vocab_size=0)
