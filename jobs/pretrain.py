#!/usr/bin/env python3
"""Trains a small GPT-2 from random weights on a part of E2E's table texts, and leaves the other rows for clients.

A stand-in for a pretrained decoder where none can be had: a Hugging Face folder with a tokenizer of its own. Its rows
are those whose tables lack the slot --without (so that the model is fluent, and has never been told of it), and of
these a share, by prompt; every other row is written to --rest, from which jobs/prepare.py makes the clients. The model
thus is trained on pooled rows, and on none that a client holds.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from pathlib import Path

try:
    import numpy as np
    import torch
    from prepare_known import KNOWN
    from prepare_layouts import described, slots_of
    from prepare_rows import TRAIN, BadRow, InputError, Place, Row
    from prepare_targets import tokenize_targets
    from prepare_tokens import load_model
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
except ImportError as error:
    sys.exit(f"pretrain.py: error: {error}; jobs/setup.sh installs it: run as .venv/bin/python jobs/pretrain.py")

END = "<|endoftext|>"
BAR = 50  # steps between two lines of progress


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pretrain.py", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("--train", metavar="FILE", required=True, help="E2E's trainset.csv, header with mr, ref")
    add("--rest", metavar="FILE.csv", required=True, help="file to write: the rows that the model is not trained on")
    add("--output", metavar="DIR", required=True, help="folder to write, with config.json, weights, tokenizer.json")
    add("--without", metavar="SLOT", default="eatType", help="slot that the model never sees [%(default)s]")
    add("--share", metavar="S", type=float, default=0.5, help="share of the prompts without it [%(default)s]")
    add("--layers", type=int, default=4, help="[%(default)s]")
    add("--hidden", type=int, default=192, help="[%(default)s]")
    add("--heads", type=int, default=4, help="[%(default)s]")
    add("--vocabulary", type=int, default=2048, help="tokens of the byte-level BPE [%(default)s]")
    add("--positions", type=int, default=256, help="[%(default)s]")
    add("--steps", type=int, default=1000, help="[%(default)s]")
    add("--batch-size", type=int, default=32, help="[%(default)s]")
    add("--learning-rate", type=float, default=2e-3, help="of AdamW, after a rise over 5%% of the steps; falls to a "
        "tenth as a cosine [%(default)s]")  # fmt: skip
    add("--seed", type=int, default=1, help="[%(default)s]")
    add("--threads", type=int, default=1, help="[%(default)s]")
    return parser


def split_rows(path: Path, without: str, share: float, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows for the model and the rest; all rows of a prompt are on one side."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = sorted({row["mr"] for row in rows if without not in slots_of(row["mr"])})
    order = np.random.default_rng(seed).permutation(len(prompts))
    chosen = {prompts[i] for i in order[: round(share * len(prompts))]}
    return [row for row in rows if row["mr"] in chosen], [row for row in rows if row["mr"] not in chosen]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["mr", "ref"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def train_tokenizer(rows: list[Row], size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator((text for row in rows for text in (row.text, " " + (row.target or ""))), trainer)
    return tokenizer


def batches(lengths: np.ndarray, size: int, steps: int, seed: int):
    """Indices of examples of about one length: chunks of a shuffled order, sorted inside."""
    random = np.random.default_rng(seed)
    step = 0
    while step < steps:
        order = random.permutation(len(lengths))
        chunks = [order[i : i + 50 * size] for i in range(0, len(order), 50 * size)]
        order = np.concatenate([chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in chunks])
        cuts = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        for i in random.permutation(len(cuts))[: steps - step]:
            yield cuts[i]
            step += 1


def train(model: GPT2LMHeadModel, sequences: list[np.ndarray], options: argparse.Namespace) -> None:
    """Next token of prompt and text, every position alike."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01)
    steps, rise = options.steps, max(1, options.steps // 20)
    lengths = np.asarray([len(sequence) for sequence in sequences])
    mean, start = 0.0, time.monotonic()
    for step, chosen in enumerate(batches(lengths, options.batch_size, steps, options.seed)):
        falling = 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * min((step + 1) / rise, falling)
        ids = torch.zeros(len(chosen), int(lengths[chosen].max()), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, i in enumerate(chosen):
            ids[row, : lengths[i]] = labels[row, : lengths[i]] = torch.from_numpy(sequences[i].astype(np.int64))
        # What is padded stands at the end, where no other position sees it.
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += loss.item() / BAR
        if (step + 1) % BAR == 0:
            print(f"step {step + 1} of {steps}, loss {mean:.3f}, {time.monotonic() - start:.0f} s", flush=True)
            mean = 0.0


def pretrain(options: argparse.Namespace) -> None:
    mine, rest = split_rows(Path(options.train), options.without, options.share, options.seed)
    output, columns = Path(options.output), KNOWN["e2e"].layouts["csv"].columns
    write_rows(Path(options.rest), rest)
    rows = [row for values in mine for row in described(values, columns, Place(TRAIN, options.train, 0))]
    tokenizer = train_tokenizer(rows, options.vocabulary)
    torch.manual_seed(options.seed)
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=options.positions, n_embd=options.hidden,
        n_layer=options.layers, n_head=options.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0,
    ))  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END).save_pretrained(
        output
    )
    model.config.save_pretrained(output)
    tokens, kept, _ = tokenize_targets(load_model(options.output, output), rows, options.positions)
    sequences = [tokens.ids[a:b] for a, b in zip(tokens.offsets, tokens.offsets[1:])]
    print(f"{len(kept)} rows for the model, {len(rest)} for clients; {model.num_parameters()} parameters, "
          f"{len(tokens.ids)} tokens, of {options.steps * options.batch_size} rows trained on")  # fmt: skip
    train(model, sequences, options)
    model.save_pretrained(output)


def main() -> int:
    options = make_parser().parse_args()
    torch.set_num_threads(options.threads)
    try:
        pretrain(options)
    except (BadRow, InputError, OSError, KeyError) as error:
        print(f"pretrain.py: error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
