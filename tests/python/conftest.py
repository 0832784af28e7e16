"""A small random BERT and a small set of real glosses, made once a session."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GLOSSES = Path("/usr/share/wordnet/data.noun")
FILES = {"05": "animal", "06": "artifact", "13": "food", "15": "location", "18": "person", "20": "plant"}


@pytest.fixture(scope="session")
def small_text(tmp_path_factory) -> dict[str, object]:
    """Options of a run on 480 glosses with a 2-layer BERT of width 64, MiniLM's tokenizer."""
    tokenizer = ROOT / "models" / "minilm" / "tokenizer.json"
    if not tokenizer.is_file() or not GLOSSES.is_file():
        pytest.skip("models/minilm or the package wordnet-base is not installed")
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("small_text")
    model, table, data = folder / "model", folder / "glosses.tsv", folder / "glosses.h5"
    torch.manual_seed(5)
    # A wider start than BERT's 0.02: a model whose outputs differ by example, so that training moves.
    config = BertConfig(vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=128, max_position_embeddings=64, initializer_range=0.2)
    BertModel(config).save_pretrained(model)
    shutil.copy(tokenizer, model)

    lines, found = ["text\tlabel"], {name: 0 for name in FILES}
    for line in GLOSSES.read_text(encoding="utf-8").splitlines():
        fields, bar, gloss = line.partition(" | ")
        number = fields.split(" ")[1]
        if bar and number in FILES and found[number] < 80:
            found[number] += 1
            lines.append(f"{gloss.strip()}\t{FILES[number]}")
    assert set(found.values()) == {80}
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "jobs" / "prepare.py", "tsv", "--model", model, "--train", table,
                    "--max-length", "64", "--test-share", "0.25", "--output", data],
                   check=True, capture_output=True, timeout=120)
    return {"problem": "transformer", "model": model, "data": data, "clients": 5, "rounds": 3, "lockstep": 2,
            "dirichlet-alpha": 0.5, "examples-per-client": 40, "test-examples-per-client": 16, "local-steps": 3,
            "batch-size": 8, "rank": 4, "client-rank": 2}
