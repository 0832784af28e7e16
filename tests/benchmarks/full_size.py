#!/usr/bin/env python3
"""Cost of full-size models without their weights: random ones of a shape, a data set prepared for them, a dry run.

    full_size.py roberta-base --data glue/sst2 --train train.tsv --test dev.tsv [--methods pf2lora] [OPTIONS OF PF2LORA]

prints rows of a table: seconds of a local step of one client and of an evaluation of all, of the processor's time
rather than the clock's (the machine may be shared), and the largest resident memory in MiB. The tokenizer is
byte-level BPE of 8,000 tokens trained on the data, so an example has about as many tokens as with the model's own
one; time does not depend on the weights.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers as hf
from scale import seconds
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ENDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, **ENDS}
DEBERTA = {"vocab_size": 128100, "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
           "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "layer_norm_eps": 1e-7, "max_relative_positions": -1,
           "position_biased_input": False, "type_vocab_size": 0, **ENDS}
GPT2 = {"bos_token_id": 2, "eos_token_id": 2}
SHAPES = {
    "minilm": lambda: hf.BertModel(hf.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)),
    "roberta-base": lambda: hf.RobertaModel(hf.RobertaConfig(**ROBERTA)),
    "roberta-large": lambda: hf.RobertaModel(hf.RobertaConfig(**ROBERTA, **LARGE)),
    "deberta-v3-base": lambda: hf.DebertaV2Model(hf.DebertaV2Config(
        **DEBERTA, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)),
    "gpt2-medium": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, n_embd=1024, n_layer=24, n_head=16)),
    "gpt2-xl": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, n_embd=1600, n_layer=48, n_head=25)),
}


def make_model(shape: str, texts: Path, folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.train([str(texts)], trainers.BpeTrainer(vocab_size=8000, special_tokens=SPECIAL, show_progress=False))
    if not shape.startswith("gpt2"):
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    torch.manual_seed(1)
    SHAPES[shape]().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def measured(program: str, options: list[str]) -> tuple[float, float, float]:
    """Seconds of a local step of one client and of an evaluation of all, and MiB, of a process of its own."""
    start = time.monotonic()
    words = [program, *options, "--dry-run", "--lockstep=1"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    page = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"full_size.py: error: {program} failed")
    took = time.monotonic() - start
    share = (usage.ru_utime + usage.ru_stime) / took  # of a core that this process had
    found = [seconds(re.search(line + r" +(.*?)(  |$)", page, re.M)[1]) * min(share, 1)
             for line in ("one local step of 1 clients?", "one evaluation of all clients")]  # fmt: skip
    return found[0], found[1], usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--data", required=True, help="DATASET of jobs/prepare.py")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--methods", default="pf2lora,homlora")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--program", default=str(ROOT / "build" / "release" / "pf2lora"))
    options, further = parser.parse_known_args()
    model = options.folder / options.shape
    data = options.folder / f"{options.shape}-{options.data.replace('/', '-')}.h5"
    if not model.is_dir():
        make_model(options.shape, options.train, model)
    if not data.is_file():
        subprocess.run([sys.executable, ROOT / "jobs" / "prepare.py", options.data, "--train", options.train, "--test",
                        options.test, "--model", model, "--output", data], check=True)  # fmt: skip
    for method in options.methods.split(","):
        given = [f"--model={model}", f"--data={data}", f"--algorithm={method}", *further]
        step, evaluation, memory = measured(options.program, given)
        found = (options.shape, options.data, method, f"{step:.2f}", f"{evaluation:.0f}", f"{memory:.0f}")
        print("|", " | ".join(found), "|", flush=True)


if __name__ == "__main__":
    main()
