"""Numbers of transformers that the families of src/model are compared with (tests/model/golden_families_test.cpp).

usage: make_family_golden.py OUTPUT_DIR

Writes, for every small random model of FAMILIES, OUTPUT_DIR/family_NAME.h5 beside family_NAME/ (config.json and
weights as transformers saves them), and with PF2LORA_FULL_SIZE=1 in the environment those of FULL_SIZE too. Numbers
are double, of full size float32:

    tokens, offsets, labels, values, spans, targets   examples as in dataset.h5, and token_types where there are any
    adapters/<site>/A, B          a LoRA pair of every linear layer, with the attribute scale on adapters
    gradient/rows                 the examples whose mean loss is differentiated
    frequencies                   only where rotary_in_double: transformers' own, in float32
    readouts/<name>/              attributes task, pooling and dense (whether the head has a dense layer)
        adapters                  the same as /adapters
        head/...                  weight and bias, and dense/weight and dense/bias; none of generation
        logits/<kind>             a row an example, token or token to be generated
        gradient/<kind>/...       as adapters and head are laid out, with the attribute loss

A kind is frozen (without pairs), adapted, or top (only the last layer has pairs). A pair is merged into its frozen
matrix, W + scale B A, and differentiated there; make_bert_golden.py has PEFT's own numbers. Examples are padded.
"""

import argparse
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from golden_files import make_stale, new_file, recipe, write

CLASSES = 5
RANK, SCALE = 3, 3.0
BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention-output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
DISTILBERT = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention-output": "attention.out_lin",
    "intermediate": "ffn.lin1",
    "output": "ffn.lin2",
}
DEBERTA = BERT | {name: f"attention.self.{name}_proj" for name in ("query", "key", "value")}
GPT2 = {  # a third of c_attn each
    "query": "attn.c_attn.query",
    "key": "attn.c_attn.key",
    "value": "attn.c_attn.value",
    "attention-output": "attn.c_proj",
    "intermediate": "mlp.c_fc",
    "output": "mlp.c_proj",
}
LLAMA = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention-output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "intermediate": "mlp.up_proj",
    "output": "mlp.down_proj",
}


@dataclass
class Readout:
    task: str
    model: str  # class of transformers
    pooling: str = "cls"
    head: dict = field(default_factory=dict)  # our name: the module of the class; empty: a linear layer on its states


@dataclass
class Family:
    config: str  # class of transformers
    sizes: dict
    saved: str  # the class whose weights are written
    layer: str  # what layers are called
    modules: dict
    readouts: dict
    rotary_in_double: bool = False  # transformers turns angles, normalises and weighs attention in float32
    shard: str = "1GB"
    full_size: bool = False  # float32, weights as transformers draws them

    def sites(self, layers) -> list[str]:
        return [f"{self.layer}{i}.{module}" for i in layers for module in self.modules.values()]


def linear(model: str, *poolings: str) -> dict:
    return {pooling: Readout("classification", model, pooling) for pooling in poolings}


def answers(model: str) -> dict:
    return {"span": Readout("span", model, head={"": "qa_outputs"})}


def decoder(base: str, causal: str) -> dict:
    return linear(base, "last", "mean", "cls") | {"generation": Readout("generation", causal)}


ROBERTA_HEAD = {"dense": "classifier.dense", "": "classifier.out_proj"}
ENCODER_SIZES = dict(
    vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=40,
)
LLAMA_SIZES = ENCODER_SIZES | dict(num_key_value_heads=2)
GPT2_SIZES = dict(vocab_size=200, n_embd=32, n_layer=2, n_head=4, n_inner=64, n_positions=40)
DEBERTA_SIZES = ENCODER_SIZES | dict(
    # transformers' scale of attention is the root in float32 of three times a head's width: exact if a square
    hidden_size=48, intermediate_size=64, relative_attention=True, pos_att_type="c2p|p2c", share_att_key=True,
    position_biased_input=False, norm_rel_ebd="layer_norm", position_buckets=8, max_relative_positions=-1,
    type_vocab_size=0,
)
FAMILIES = {
    "bert_pairs": Family(
        "BertConfig", ENCODER_SIZES, "BertModel", "encoder.layer.", BERT,
        linear("BertModel", "cls", "mean", "last")
        | {"regression": Readout("regression", "BertModel")}
        | answers("BertForQuestionAnswering"),
    ),
    "roberta": Family(
        "RobertaConfig", ENCODER_SIZES | dict(max_position_embeddings=42, pad_token_id=1, type_vocab_size=1),
        "RobertaForSequenceClassification", "encoder.layer.", BERT,
        linear("RobertaModel", "cls", "mean", "last")
        | {task: Readout(task, "RobertaForSequenceClassification", head=ROBERTA_HEAD)
           for task in ("classification", "regression")}
        | answers("RobertaForQuestionAnswering"),
    ),
    "distilbert": Family(
        "DistilBertConfig",
        dict(vocab_size=200, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=40),
        "DistilBertForSequenceClassification", "transformer.layer.", DISTILBERT,
        linear("DistilBertModel", "cls", "mean", "last")
        | {"classification": Readout("classification", "DistilBertForSequenceClassification",
                                     head={"dense": "pre_classifier", "": "classifier"})}
        | answers("DistilBertForQuestionAnswering"),
    ),
    "deberta": Family(
        "DebertaV2Config", DEBERTA_SIZES, "DebertaV2ForSequenceClassification", "encoder.layer.", DEBERTA,
        linear("DebertaV2Model", "cls", "mean", "last")
        | {"classification": Readout("classification", "DebertaV2ForSequenceClassification",
                                     head={"dense": "pooler.dense", "": "classifier"})}
        | answers("DebertaV2ForQuestionAnswering"),
    ),
    "deberta_c2p": Family(  # one kind of scores alone, a row each distance, not normalised
        "DebertaV2Config",
        DEBERTA_SIZES | dict(hidden_size=32, pos_att_type="c2p", norm_rel_ebd="none", position_buckets=-1,
                             max_relative_positions=12, type_vocab_size=2),
        "DebertaV2Model", "encoder.layer.", DEBERTA, linear("DebertaV2Model", "cls", "mean"),
    ),
    "gpt2": Family(
        "GPT2Config", GPT2_SIZES, "GPT2LMHeadModel", "h.", GPT2, decoder("GPT2Model", "GPT2LMHeadModel"),
    ),
    "llama": Family(
        "LlamaConfig", LLAMA_SIZES, "LlamaForCausalLM", "layers.", LLAMA, decoder("LlamaModel", "LlamaForCausalLM"),
    ),
    "llama_scaled": Family(
        "LlamaConfig",
        LLAMA_SIZES | dict(
            rms_norm_eps=1e-3, attention_bias=True, mlp_bias=True, head_dim=12, max_position_embeddings=80,
            rope_parameters=dict(rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=40),
        ),
        "LlamaForCausalLM", "layers.", LLAMA, decoder("LlamaModel", "LlamaForCausalLM"), rotary_in_double=True,
    ),
    "qwen2": Family(
        "Qwen2Config", LLAMA_SIZES | dict(tie_word_embeddings=True), "Qwen2ForCausalLM", "layers.", LLAMA,
        decoder("Qwen2Model", "Qwen2ForCausalLM"), shard="20KB",
    ),
    "qwen2_exact": Family(
        "Qwen2Config", LLAMA_SIZES | dict(rope_parameters=dict(rope_type="linear", rope_theta=1e6, factor=2.0)),
        "Qwen2Model", "layers.", LLAMA, linear("Qwen2Model", "last"), rotary_in_double=True,
    ),
}
FULL_SIZE = {
    "full_roberta": Family(
        "RobertaConfig",
        dict(vocab_size=50265, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5),
        "RobertaModel", "encoder.layer.", BERT,
        {"classification": FAMILIES["roberta"].readouts["classification"]}
        | answers("RobertaForQuestionAnswering"),
        shard="100GB", full_size=True,
    ),
    "full_gpt2": Family(
        "GPT2Config", {}, "GPT2LMHeadModel", "h.", GPT2,
        linear("GPT2Model", "last") | {"generation": Readout("generation", "GPT2LMHeadModel")},
        shard="100GB", full_size=True,
    ),
}


class Examples:
    """Of mixed lengths, with what every task asks of them."""

    def __init__(self, lengths, vocabulary: int, typed: bool, random):
        def below(bound: int) -> int:
            return int(torch.randint(0, bound, (1,), generator=random))

        # From 2 on: RoBERTa tells padding by token 1.
        self.ids = [torch.randint(2, vocabulary, (length,), generator=random) for length in lengths]
        self.labels = torch.tensor([below(CLASSES) for _ in lengths])
        self.values = torch.randn(len(lengths), generator=random)
        places = [sorted((below(length), below(length))) for length in lengths]
        self.spans = torch.tensor(places)
        # The first token to be generated; an example of one token has none.
        self.targets = torch.tensor([1 + below(max(1, length - 1)) for length in lengths])
        self.types = None
        if typed:
            splits = [below(length + 1) for length in lengths]
            self.types = [(torch.arange(length) >= split).long() for length, split in zip(lengths, splits)]

    def write(self, file) -> None:
        file["tokens"] = torch.cat(self.ids).numpy().astype(np.int32)
        file["offsets"] = np.cumsum([0] + [len(ids) for ids in self.ids], dtype=np.int64)
        file["labels"] = self.labels.numpy().astype(np.int32)
        file["values"] = self.values.numpy()
        file["spans"] = self.spans.numpy().astype(np.int32)
        file["targets"] = self.targets.numpy().astype(np.int32)
        if self.types:
            file["token_types"] = torch.cat(self.types).numpy().astype(np.int8)

    def inputs(self, rows, pad: int) -> dict:
        def padded(sequences, filling):
            return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=filling)

        chosen = [self.ids[i] for i in rows]
        inputs = {"input_ids": padded(chosen, pad), "attention_mask": padded([torch.ones_like(x) for x in chosen], 0)}
        if self.types:
            inputs["token_type_ids"] = padded([self.types[i] for i in rows], 0)
        return inputs


def draw_weights(model, random) -> None:
    """Normal with deviation 0.2, weights of norms around 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            of_norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(1.0 if of_norm else 0.0, 0.2, generator=random)


def compute_in_double(model) -> None:
    """Replaces what Llama and Qwen2 compute in float32 whatever the type of the weights."""
    functional = torch.nn.functional

    def turns(rotary):
        def forward(x, position_ids):
            angles = position_ids[..., None].double() * rotary.inv_freq.double()
            both = torch.cat((angles, angles), dim=-1)
            return both.cos(), both.sin()

        return forward

    def norm(module):
        return lambda x: functional.rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = norm(module)
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.forward = turns(module)


class Network:
    """A model of transformers under one readout, of which pairs and head are parameters."""

    def __init__(self, family: Family, readout: Readout, directory: Path, dtype):
        self.family, self.readout = family, readout
        labels = 1 if readout.task == "regression" else CLASSES
        if readout.task == "span":
            labels = 2
        attention = "sdpa" if family.rotary_in_double else "eager"
        self.model = getattr(transformers, readout.model).from_pretrained(
            directory, dtype=dtype, attn_implementation=attention, num_labels=labels, ignore_mismatched_sizes=True
        ).eval()
        if family.rotary_in_double:
            compute_in_double(self.model)
        base = self.model.base_model
        self.prefix = "" if base is self.model else self.model.base_model_prefix + "."
        self.frozen = dict(self.model.named_parameters())
        self.labels = labels
        self.pad = self.model.config.pad_token_id or 0

    def new_head(self, deviation: float, random, dtype) -> dict:
        """By our names, weight and bias."""
        if self.readout.task == "generation":
            return {}
        hidden = self.model.config.hidden_size
        shapes = {"weight": (self.labels, hidden), "bias": (self.labels,)}
        if "dense" in self.readout.head:
            shapes |= {"dense/weight": (hidden, hidden), "dense/bias": (hidden,)}
        return {
            name: torch.normal(0.0, deviation, shape, generator=random, dtype=dtype).requires_grad_()
            for name, shape in shapes.items()
        }

    def merged(self, pairs: dict) -> dict:
        """The frozen matrices with what pairs, by site and letter, add to them."""
        deltas = {}
        for site in dict.fromkeys(name.rpartition("/")[0] for name in pairs):
            delta = SCALE * pairs[f"{site}/B"] @ pairs[f"{site}/A"]
            module, _, part = site.rpartition(".")
            if part in ("query", "key", "value") and "c_attn" in module:
                deltas.setdefault(module, []).append(delta)
            else:
                deltas[site] = [delta]
        matrices = {}
        for module, parts in deltas.items():
            name = f"{self.prefix}{module}.weight"
            whole = torch.cat(parts)
            matrices[name] = self.frozen[name] + (whole.t() if self.family.modules is GPT2 else whole)
        return matrices

    def logits(self, examples: Examples, rows, pairs: dict, head: dict):
        """Rows as the readout has them, and for a span the longest example's tokens beside each other."""
        parameters = self.merged(pairs)
        for ours, theirs in self.readout.head.items():
            for part in ("weight", "bias"):
                parameters[f"{theirs}.{part}"] = head[f"{ours}/{part}" if ours else part]
        inputs = examples.inputs(rows, self.pad)
        output = torch.func.functional_call(self.model, parameters, kwargs=inputs)
        mask = inputs["attention_mask"].bool()
        if self.readout.task == "generation":
            return output.logits[self.read_from(examples, rows, mask)]
        if self.readout.task == "span":
            return torch.stack([output.start_logits, output.end_logits], -1), mask
        if self.readout.head:
            return output.logits
        states = output.last_hidden_state
        lengths = mask.sum(1)
        if self.readout.pooling == "mean":
            pooled = (states * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(-1)
        else:
            chosen = lengths - 1 if self.readout.pooling == "last" else torch.zeros_like(lengths)
            pooled = states[torch.arange(len(states)), chosen]
        return torch.nn.functional.linear(pooled, head["weight"], head["bias"])

    def read_from(self, examples: Examples, rows, mask):
        """Which padded places a token to be generated is read from."""
        place = torch.arange(mask.shape[1])
        return (place >= examples.targets[list(rows)].unsqueeze(1) - 1) & (place < mask.sum(1, keepdim=True) - 1)

    def loss(self, examples: Examples, rows, pairs: dict, head: dict):
        functional, rows = torch.nn.functional, list(rows)
        logits = self.logits(examples, rows, pairs, head)
        if self.readout.task == "regression":
            return functional.mse_loss(logits.squeeze(1), examples.values[rows].to(logits.dtype))
        if self.readout.task == "classification":
            return functional.cross_entropy(logits, examples.labels[rows])
        if self.readout.task == "generation":
            generated = [examples.ids[i][examples.targets[i] :] for i in rows]
            return functional.cross_entropy(logits, torch.cat(generated))
        scores, mask = logits
        scores = scores.masked_fill(~mask.unsqueeze(-1), -torch.inf)
        return sum(functional.cross_entropy(scores[..., end], examples.spans[rows, end]) for end in (0, 1)) / 2

    def rows(self, examples: Examples, pairs: dict, head: dict):
        """The logits of all examples without padding, a few at a time."""
        found = []
        with torch.no_grad():
            for first in range(0, len(examples.ids), 8):
                rows = range(first, min(first + 8, len(examples.ids)))
                logits = self.logits(examples, rows, pairs, head)
                found.append(logits[0][logits[1]] if self.readout.task == "span" else logits)
        return torch.cat(found)


def new_pairs(network: Network, layers: int, deviations, random, dtype) -> dict:
    """By site and letter."""
    pairs = {}
    for site in network.family.sites(range(layers)):
        module, thirds = site, 1
        if ".c_attn." in site:
            module, thirds = site.rpartition(".")[0], 3
        shape = network.frozen[f"{network.prefix}{module}.weight"].shape
        columns, rows = shape if network.family.modules is GPT2 else reversed(shape)
        for letter, of_letter, deviation in zip("AB", ((RANK, columns), (rows // thirds, RANK)), deviations):
            drawn = torch.normal(0.0, deviation, of_letter, generator=random, dtype=dtype)
            pairs[f"{site}/{letter}"] = drawn.requires_grad_()
    return pairs


def write_readout(group, network: Network, examples: Examples, gradient_rows, pairs: dict, top: dict, head: dict):
    readout = network.readout
    group.attrs["task"], group.attrs["pooling"] = readout.task, readout.pooling
    group.attrs["dense"] = np.int8("dense" in readout.head)
    write(group, {f"head/{name}": value for name, value in head.items()})
    for kind, of_kind in {"frozen": {}, "adapted": pairs, "top": top}.items():
        group[f"logits/{kind}"] = network.rows(examples, of_kind, head).numpy()
        if kind == "frozen":
            continue
        loss = network.loss(examples, gradient_rows, of_kind, head)
        learned = {f"adapters/{name}": value for name, value in of_kind.items()}
        learned |= {f"head/{name}": value for name, value in head.items()}
        gradients = torch.autograd.grad(loss, list(learned.values()))
        of_kind_group = group.create_group(f"gradient/{kind}")
        of_kind_group.attrs["loss"] = loss.item()
        write(of_kind_group, dict(zip(learned, gradients)))


def make(path: Path, made_by: str, family: Family) -> None:
    torch.manual_seed(7)
    random = torch.Generator().manual_seed(8)
    dtype = torch.float32 if family.full_size else torch.float64
    config = getattr(transformers, family.config)(**family.sizes)
    saved = getattr(transformers, family.saved)(config).to(dtype)
    if not family.full_size:
        draw_weights(saved, random)
    directory = path.with_suffix("")
    saved.save_pretrained(directory, max_shard_size=family.shard)
    del saved

    generates = "generation" in family.readouts
    lengths = [5, 64, 17, 2, 33] if family.full_size else [2 if generates else 1, 20, 2, 7, 40, 3, 11, 5] * 3
    examples = Examples(lengths, config.vocab_size, config.model_type == "bert", random)
    gradient_rows = range(4 if family.full_size else 16)
    layers = config.num_hidden_layers
    pairs = top = None
    with new_file(path, made_by) as file:
        examples.write(file)
        file["gradient/rows"] = np.array(gradient_rows, dtype=np.int64)
        file.create_group("adapters").attrs["scale"] = SCALE
        for name, readout in family.readouts.items():
            network = Network(family, readout, directory, dtype)
            if pairs is None:
                pairs = new_pairs(network, layers, (0.05, 0.02) if family.full_size else (0.2, 0.2), random, dtype)
                highest = family.sites([layers - 1])
                top = {name: value for name, value in pairs.items() if name.rpartition("/")[0] in highest}
                write(file["adapters"], pairs)
                if family.rotary_in_double:
                    file["frequencies"] = network.model.base_model.rotary_emb.inv_freq.float().numpy()
            group = file.create_group(f"readouts/{name}")
            group["adapters"] = file["adapters"]
            head = network.new_head(0.05 if family.full_size else 0.3, random, dtype)
            write_readout(group, network, examples, gradient_rows, pairs, top, head)


def load_packages() -> None:
    """Slow, and not needed where nothing is to be made."""
    global torch, transformers
    import torch
    import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    made_by = recipe(Path(__file__), ("torch", "transformers"))
    wanted = {f"family_{name}": family for name, family in FAMILIES.items()}
    if os.environ.get("PF2LORA_FULL_SIZE") == "1":
        wanted |= FULL_SIZE
    makers = {name: partial(make, made_by=made_by, family=family) for name, family in wanted.items()}
    make_stale(given.output, made_by, makers, load_packages)


if __name__ == "__main__":
    main()
