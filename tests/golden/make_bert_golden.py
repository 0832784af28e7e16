"""Numbers of transformers and PEFT that the C++ model is compared with (tests/model, tests/algorithm).

usage: make_bert_golden.py OUTPUT_DIR --model DIR [--wordnet DIR]

Writes OUTPUT_DIR/minilm.h5 (a pretrained BERT on WordNet glosses, float32: logits, gradients of adapters, losses of
a training run) and, for small random BERTs in double, OUTPUT_DIR/small_NAME.h5 beside small_NAME/ (config.json and
model.safetensors as transformers saves them). Every file:

    tokens, offsets, labels            examples as in dataset.h5
    head/weight, head/bias             a classification head
    adapters/<site>/A, B               a LoRA pair of every adapted site, with the attribute scale on adapters
    adapters/prompt                    only small ones: [vectors, hidden] inserted after the first token, and
    adapters/prefix/<layer>/key, value [vectors, hidden] before the layer's keys and values
    logits/<kind>/<pooling>            [examples, classes], kind frozen, adapted (with pairs) or, for the small ones,
                                       prompted (with pairs, prompt and prefix)
    gradient/<pooling>/...             of the mean cross-entropy of gradient/rows at the adapted model, as adapters and
                                       head are laid out, with the attribute loss on gradient/<pooling>
    prompted_gradient/<pooling>/...    the same at the prompted model
    attribute model                    only minilm: the directory of the weights
    training/...                       only minilm: start values, rows [steps, batch] and loss [steps]

Files that this script has written with the same versions of everything are kept.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from golden_files import make_stale, new_file, recipe, write

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention-output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
SMALL = {  # name: activation, saved with a head (so that names begin with bert.)
    "gelu": ("gelu", False),
    "gelu_new": ("gelu_new", True),
    "relu": ("relu", False),
}
BATCH = 16


class Examples:
    def __init__(self, ids: list[list[int]], labels: list[int]):
        self.ids, self.labels = ids, labels

    def write(self, file: h5py.File) -> None:
        file["tokens"] = np.array([token for ids in self.ids for token in ids], dtype=np.int32)
        file["offsets"] = np.cumsum([0] + [len(ids) for ids in self.ids], dtype=np.int64)
        file["labels"] = np.array(self.labels, dtype=np.int32)

    def padded(self, rows):
        """Token ids and mask [rows, longest], and labels."""
        longest = max(len(self.ids[i]) for i in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(rows):
            ids[row, : len(self.ids[i])] = torch.tensor(self.ids[i])
            mask[row, : len(self.ids[i])] = 1
        return ids, mask, torch.tensor([self.labels[i] for i in rows])


class Classifier:
    """A transformers encoder, with or without PEFT's adapters, under a linear head."""

    def __init__(self, encoder, weight, bias):
        self.encoder, self.weight, self.bias = encoder.eval(), weight, bias

    def encode(self, ids, mask):
        """The encoder's output, and a mask of the tokens in it."""
        return self.encoder(input_ids=ids, attention_mask=mask), mask

    def logits(self, ids, mask, pooling):
        output, tokens = self.encode(ids, mask)
        hidden = output.last_hidden_state
        if pooling == "pooler":
            pooled = output.pooler_output
        elif pooling == "mean":
            share = tokens.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * share).sum(1) / share.sum(1)
        else:
            pooled = hidden[:, 0]
        return torch.nn.functional.linear(pooled, self.weight, self.bias)

    def all_logits(self, examples, pooling):
        with torch.no_grad():
            count = len(examples.ids)
            batches = [range(i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
            return torch.cat([self.logits(*examples.padded(rows)[:2], pooling) for rows in batches])

    def loss(self, examples, rows, pooling):
        ids, mask, labels = examples.padded(rows)
        return torch.nn.functional.cross_entropy(self.logits(ids, mask, pooling), labels)

    def pairs(self) -> dict:
        """PEFT's parameters by <site>/A and <site>/B."""
        found = {}
        for name, parameter in self.encoder.named_parameters():
            if ".lora_" in name:
                site, _, letter = name.removeprefix("base_model.model.").partition(".lora_")
                found[f"{site}/{letter[0]}"] = parameter
        return found

    def learned(self) -> dict:
        return {f"adapters/{name}": p for name, p in self.pairs().items()} | {
            "head/weight": self.weight,
            "head/bias": self.bias,
        }


class PromptedClassifier(Classifier):
    """With a prompt [vectors, hidden] after the first token, and a (key, value) prefix for each layer."""

    def __init__(self, encoder, weight, bias, prompt, prefix):
        super().__init__(encoder, weight, bias)
        self.prompt, self.prefix = prompt, prefix

    def encode(self, ids, mask):
        bert = self.encoder.get_base_model()
        embeddings, heads = bert.embeddings, bert.config.num_attention_heads

        def insert(whole, middle):
            return torch.cat([whole[:, :1], middle.expand(len(ids), *middle.shape), whole[:, 1:]], 1)

        # BertEmbeddings adds what it has for position 0 and token type 0; a prompt has neither.
        added = embeddings.position_embeddings.weight[0] + embeddings.token_type_embeddings.weight[0]
        inputs = insert(embeddings.word_embeddings(ids), self.prompt - added)
        ones = torch.ones(len(self.prompt), dtype=torch.long)
        positions = insert(torch.arange(ids.shape[1]).expand(ids.shape), 0 * ones)

        def by_head(vectors):
            return vectors.view(1, len(vectors), heads, -1).transpose(1, 2).expand(len(ids), -1, -1, -1)

        cache = transformers.DynamicCache()
        for layer, (key, value) in enumerate(self.prefix):
            cache.update(by_head(key), by_head(value), layer)
        before = torch.ones(len(ids), len(self.prefix[0][0]), dtype=torch.long)
        output = bert(
            inputs_embeds=inputs, position_ids=positions, past_key_values=cache,
            attention_mask=torch.cat([before, insert(mask, ones)], 1),
        )
        return output, insert(mask, 0 * ones)

    def learned(self) -> dict:
        prefix = {
            f"adapters/prefix/{layer}/{part}": vectors
            for layer, pair in enumerate(self.prefix)
            for part, vectors in zip(("key", "value"), pair)
        }
        return super().learned() | {"adapters/prompt": self.prompt} | prefix


def random_head(classes, hidden, deviation, random, dtype):
    return [
        torch.normal(0.0, deviation, shape, generator=random, dtype=dtype).requires_grad_()
        for shape in ((classes, hidden), (classes,))
    ]


def with_adapters(encoder, rank, alpha, targets, dtype):
    names = "|".join(TARGETS[target].replace(".", r"\.") for target in targets)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=rf"encoder\.layer\.\d+\.({names})"
    )
    return peft.get_peft_model(encoder, config).to(dtype)


def write_gradient(file, classifier, examples, rows, pooling, name="gradient") -> None:
    learned = classifier.learned()
    loss = classifier.loss(examples, rows, pooling)
    gradients = torch.autograd.grad(loss, list(learned.values()))
    group = file.create_group(f"{name}/{pooling}")
    group.attrs["loss"] = loss.item()
    write(group, dict(zip(learned, gradients)))


def make_small(path: Path, made_by: str, activation: str, with_head: bool) -> None:
    torch.manual_seed(7)
    random = torch.Generator().manual_seed(8)
    config = transformers.BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        hidden_act=activation, max_position_embeddings=40, num_labels=5,
    )
    saved = (transformers.BertForSequenceClassification if with_head else transformers.BertModel)(config)
    with torch.no_grad():
        for name, parameter in saved.named_parameters():
            if "LayerNorm.weight" in name:
                parameter.normal_(1.0, 0.2, generator=random)
            else:
                parameter.normal_(0.0, 0.2, generator=random)
    saved.save_pretrained(path.with_suffix(""), safe_serialization=True)

    def encoder():
        return transformers.BertModel.from_pretrained(path.with_suffix(""), attn_implementation="eager").double()

    lengths = [1, 20, 2, 7, 40, 3, 11, 5] * 3
    examples = Examples(
        [torch.randint(0, 200, (length,), generator=random).tolist() for length in lengths],
        torch.randint(0, 5, (len(lengths),), generator=random).tolist(),
    )
    head = random_head(5, 32, 0.3, random, torch.float64)
    frozen = Classifier(encoder(), *head)
    adapted = Classifier(with_adapters(encoder(), 3, 9, TARGETS, torch.float64), *head)
    with torch.no_grad():
        for parameter in adapted.pairs().values():
            parameter.normal_(0.0, 0.2, generator=random)

    def vectors(count):
        return torch.normal(0.0, 1.0, (count, 32), generator=random, dtype=torch.float64).requires_grad_()

    prompted = PromptedClassifier(
        adapted.encoder, *head, vectors(3), [(vectors(2), vectors(2)) for _ in range(config.num_hidden_layers)]
    )
    with new_file(path, made_by) as file:
        examples.write(file)
        file.create_group("adapters").attrs["scale"] = 9 / 3
        write(file, prompted.learned())
        file["gradient/rows"] = np.arange(BATCH, dtype=np.int64)
        for pooling in ("cls", "mean", "pooler"):
            file[f"logits/frozen/{pooling}"] = frozen.all_logits(examples, pooling).numpy()
            file[f"logits/adapted/{pooling}"] = adapted.all_logits(examples, pooling).numpy()
            file[f"logits/prompted/{pooling}"] = prompted.all_logits(examples, pooling).numpy()
            write_gradient(file, adapted, examples, range(BATCH), pooling)
            write_gradient(file, prompted, examples, range(BATCH), pooling, "prompted_gradient")


def glosses(model: Path, wordnet: Path, count: int, random) -> Examples:
    """Definitions of nouns drawn at random, the longest and the shortest of a thousand among them, a quarter each."""
    sys.path.insert(0, str(ROOT / "jobs"))
    from prepare_wordnet import read_wordnet
    from tokenizers import Tokenizer

    rows = read_wordnet(wordnet, 0.0, 0).rows
    names = sorted({row.label for row in rows})
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    some = [rows[i] for i in torch.randperm(len(rows), generator=random)[:1000].tolist()]
    encoded = [tokenizer.encode(row.text).ids for row in some]
    by_length = sorted(range(len(some)), key=lambda i: len(encoded[i]))
    end = count // 4
    chosen = by_length[:end] + by_length[-end:]
    chosen += [by_length[i] for i in torch.linspace(end, len(some) - end - 1, count - 2 * end).long().tolist()]
    chosen = [chosen[i] for i in torch.randperm(count, generator=random).tolist()]
    return Examples([encoded[i] for i in chosen], [names.index(some[i].label) for i in chosen])


def make_minilm(path: Path, made_by: str, model: Path, wordnet: Path) -> None:
    random = torch.Generator().manual_seed(5)
    examples = glosses(model, wordnet, 100, random)
    classes = 24

    def encoder():
        return transformers.BertModel.from_pretrained(model, attn_implementation="eager").float()

    head = random_head(classes, encoder().config.hidden_size, 0.1, random, torch.float32)
    frozen = Classifier(encoder(), *head)
    adapted = Classifier(with_adapters(encoder(), 8, 16, ("query", "value"), torch.float32), *head)
    with torch.no_grad():
        for name, parameter in adapted.pairs().items():
            if name.endswith("/B"):
                parameter.normal_(0.0, 0.02, generator=random)
    with new_file(path, made_by) as file:
        examples.write(file)
        file.attrs["model"] = str(model.absolute())
        file.create_group("adapters").attrs["scale"] = 16 / 8
        write(file, adapted.learned())
        file["gradient/rows"] = np.arange(BATCH, dtype=np.int64)
        for pooling in ("cls", "mean"):
            file[f"logits/frozen/{pooling}"] = frozen.all_logits(examples, pooling).numpy()
            file[f"logits/adapted/{pooling}"] = adapted.all_logits(examples, pooling).numpy()
            write_gradient(file, adapted, examples, range(BATCH), pooling)
        train(file.create_group("training"), encoder(), examples, classes, random)


def train(group, encoder, examples, classes, random, steps=20) -> None:
    """AdamW steps from PEFT's own start values (A Kaiming-uniform, B = 0) and a head as transformers starts it."""
    torch.manual_seed(6)
    weight, bias = random_head(classes, encoder.config.hidden_size, 0.02, random, torch.float32)
    with torch.no_grad():
        bias.zero_()
    client = Classifier(with_adapters(encoder, 8, 16, ("query", "value"), torch.float32), weight, bias)
    learned = client.learned()
    write(group, learned)
    rows = torch.stack([torch.randperm(len(examples.ids), generator=random)[:BATCH] for _ in range(steps)])
    optimizer = torch.optim.AdamW(list(learned.values()), lr=2e-3, weight_decay=0.0)
    losses = []
    for batch in rows.tolist():
        optimizer.zero_grad()
        loss = client.loss(examples, batch, "cls")
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    group["rows"] = rows.numpy()
    group["loss"] = np.array(losses)
    group.attrs["learning_rate"] = 2e-3


def load_packages() -> None:
    """Slow, and not needed where nothing is to be made."""
    global peft, torch, transformers
    import peft
    import torch
    import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    given = parser.parse_args()
    made_by = recipe(
        Path(__file__),
        ("torch", "transformers", "peft", "tokenizers"),
        str(given.model.absolute()).encode(),
        (given.model / "config.json").read_bytes(),
        str((given.model / "model.safetensors").resolve().stat().st_size).encode(),
    )
    makers = {f"small_{name}": partial(make_small, made_by=made_by, activation=activation, with_head=with_head)
              for name, (activation, with_head) in SMALL.items()}
    makers["minilm"] = partial(make_minilm, made_by=made_by, model=given.model, wordnet=given.wordnet)
    make_stale(given.output, made_by, makers, load_packages)


if __name__ == "__main__":
    main()
