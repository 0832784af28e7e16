"""The same local step as a careful user writes it with PyTorch, transformers and PEFT.

Batches are padded to their longest sentence, attention is the fused one, dropout is off, frozen weights get no
gradient, AdamW is the fused one. With --precision bf16 the frozen model is loaded in bfloat16, attention is not fused
(which is faster there), and steps are taken under autocast, adapters and their moments staying in float32. Takes
requests on standard input and answers each with a line of JSON:

    start VALUES           JSON file with the adapters' start values, by the names of step_benchmark
    steps [[ROW, ...]...]  takes a step on each list of dataset rows: seconds and loss of each
"""

import argparse
import json
import os
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import h5py
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModel
from transformers.utils import logging


class Classifier(nn.Module):
    """A frozen encoder with LoRA on query and value, and a linear head on the raw [CLS] state."""

    def __init__(self, directory, classes, half):
        super().__init__()
        self.half = half
        dtype = torch.bfloat16 if half else torch.float32
        # The fused attention of LibTorch 2.13's CPU build takes more than half of a step in bfloat16.
        attention = "eager" if half else "sdpa"
        encoder = AutoModel.from_pretrained(
            directory, add_pooling_layer=False, attn_implementation=attention, dtype=dtype
        )
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"])
        self.encoder = get_peft_model(encoder, lora)
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, tokens, mask):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            scores = self.head(self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0])
        return scores.float()


class Sentences:
    """The examples of a dataset.h5, and batches of them, padded."""

    def __init__(self, path):
        with h5py.File(path) as file:
            flat, offsets = torch.from_numpy(file["tokens"][:]).long(), file["offsets"][:]
            self.labels = torch.from_numpy(file["labels"][:]).long()
            self.classes = len(file["class_name"])
        self.tokens = [flat[begin:end] for begin, end in zip(offsets[:-1], offsets[1:])]

    def batch(self, rows):
        sentences = [self.tokens[row] for row in rows]
        tokens = nn.utils.rnn.pad_sequence(sentences, batch_first=True)
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
        return tokens, mask, self.labels[rows]


def make_model(directory, classes, half=False):
    """A Classifier on one thread, silent; half: in bfloat16."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # PEFT's use of transformers
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return Classifier(directory, classes, half).eval()


def make_optimizer(model, learning_rate):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0, fused=True)


def trained_values(model):
    """The adapters and the head, by the names of step_benchmark."""
    values = {"head/weight": model.head.weight, "head/bias": model.head.bias}
    for name, module in model.encoder.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            values[name + "/A"] = module.lora_A["default"].weight
            values[name + "/B"] = module.lora_B["default"].weight
    return values


def set_values(model, values):
    targets = trained_values(model)
    if set(targets) != set(values):
        raise ValueError(f"values of other adapters: {sorted(set(targets) ^ set(values))}")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(torch.as_tensor(values[name]).view_as(target))


def take_steps(model, optimizer, sentences, batches):
    seconds, losses = [], []
    for rows in batches:
        begin = time.perf_counter()
        tokens, mask, labels = sentences.batch(rows)
        loss = nn.functional.cross_entropy(model(tokens, mask), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds, "loss": losses}


def main():
    parser = argparse.ArgumentParser(description="Local steps with PyTorch, transformers and PEFT.")
    parser.add_argument("model", help="directory with config.json and model.safetensors")
    parser.add_argument("data", help="dataset.h5")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args()

    sentences = Sentences(arguments.data)
    model = make_model(arguments.model, sentences.classes, half=arguments.precision == "bf16")
    optimizer = make_optimizer(model, arguments.learning_rate)
    for line in sys.stdin:
        request, _, value = line.strip().partition(" ")
        if request == "start":
            with open(value) as file:
                set_values(model, json.load(file))
            answer = {}
        elif request == "steps":
            answer = take_steps(model, optimizer, sentences, json.loads(value))
        else:
            raise SystemExit(f"peft_step.py: not a request: {line!r}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
