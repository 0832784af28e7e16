"""jobs/pretrain.py: a small GPT-2 from random weights, and the rows that it has not seen."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from preparing import ROOT, made

pytest.importorskip("transformers")
ROWS = [(f"name[n{i}], {'' if i % 2 else 'eatType[pub], '}area[riverside]", f"Text {i}, version {version}.")
        for i in range(40) for version in range(3)]  # fmt: skip


def table(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["mr"], row["ref"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("mr", "ref"), *ROWS])
    words = ["--train", folder / "train.csv", "--rest", folder / "rest.csv", "--output", folder / "model", "--layers",
             "2", "--hidden", "16", "--heads", "2", "--vocabulary", "300", "--positions", "64", "--steps", "50",
             "--batch-size", "4"]  # fmt: skip
    done = subprocess.run([sys.executable, ROOT / "jobs" / "pretrain.py", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [line for line in done.stdout.splitlines() if line.startswith("step 50 of 50, loss ")]
    assert len(losses) == 1 and "30 rows for the model, 90 for clients" in done.stdout, done.stdout
    return folder


def test_the_rows_of_the_model_lack_the_slot_and_share_no_prompt_with_the_rest(pretrained):
    rest = table(pretrained / "rest.csv")
    left = [row for row in ROWS if row not in rest]
    assert [row for row in ROWS if row in rest] == rest and len(left) == 30  # half of the 20 prompts without it
    assert not {mr for mr, _ in left} & {mr for mr, _ in rest}
    assert not any("eatType" in mr for mr, _ in left)


def test_the_model_is_one_that_transformers_and_prepare_take(pretrained):
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(pretrained / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(pretrained / "model")
    assert model.config.vocab_size == len(tokenizer) and tokenizer.eos_token_id == model.config.eos_token_id == 0
    done = made("e2e", "--train", pretrained / "rest.csv", "--client", "eatType", "--model", pretrained / "model",
                "--output", pretrained / "o.h5")  # fmt: skip
    assert "2 classes" in done.stdout
