"""A small random model of every architecture and a small data set of a task for each, for tests that run them."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from preparing import bert_like, byte_level, deberta_like, gpt2_like, made, model_folder, roberta_like, write
from tokenizers import Tokenizer

NAMES = ["Aromi", "Blue Spice", "Clowns", "Cotto", "Giraffe", "Strada", "The Mill", "Zizzi"]
FOODS = ["Italian", "Indian", "French", "Japanese"]
AREAS = ["centre", "riverside", "harbour"]
POSITIONS = 96
WIDE = {"initializer_range": 0.2}  # a wider start than 0.02, so that outputs differ by example and training moves
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, **WIDE}
LLAMA = {**BERT, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}


@dataclass(frozen=True)
class Place:
    """A restaurant, of which every data set here tells something."""

    name: str
    food: str
    area: str
    price: int

    def sentence(self) -> str:
        return f"{self.name} serves {self.food} food in the {self.area} for {self.price} pounds."


def places(count: int) -> list[Place]:
    draw = random.Random(3)
    return [Place(*map(draw.choice, (NAMES, FOODS, AREAS)), draw.randint(5, 60)) for _ in range(count)]


def table(rows: list[dict[str, object]], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def pairs(folder: Path) -> list[object]:
    """Two sentences: whether they tell of one place."""
    one = places(160)
    two = [place if i % 2 else one[i - 1] for i, place in enumerate(one)]
    rows = [{"one": a.sentence(), "two": f"There is {b.food} food at {b.name}.", "label": ["other", "same"][a == b]}
            for a, b in zip(one, two)]
    train = write(folder / "pairs.tsv", table(rows, "\t"))
    return ["tsv", "--train", train, "--text", "one", "--text2", "two"]


def prices(folder: Path) -> list[object]:
    rows = [{"text": place.sentence(), "label": place.price / 10} for place in places(160)]
    return ["csv", "--train", write(folder / "prices.csv", table(rows, ",")), "--task", "regression"]


def areas(folder: Path) -> list[object]:
    rows = [json.dumps({"text": place.sentence(), "label": place.area}) for place in places(160)]
    return ["jsonl", "--train", write(folder / "areas.jsonl", "\n".join(rows))]


def questions(folder: Path) -> list[object]:
    """SQuAD's JSON; files of their own for the test rows."""
    articles = []
    for number, place in enumerate(places(160)):
        context = place.sentence()
        answer = {"text": place.food, "answer_start": context.index(place.food)}
        asked = {"id": str(number), "question": f"What does {place.name} serve?", "answers": [answer]}
        articles.append({"title": place.area, "paragraphs": [{"context": context, "qas": [asked]}]})
    split = {"train": articles[:100], "test": articles[100:]}
    files = {name: write(folder / f"{name}.json", json.dumps({"version": "1.1", "data": part}))
             for name, part in split.items()}
    return ["squad", "--train", files["train"], "--test", files["test"], "--max-length", "64"]


def restaurants(folder: Path) -> list[object]:
    """E2E's CSV."""
    rows = [{"mr": f"name[{place.name}], eatType[{place.area}], food[{place.food}]", "ref": place.sentence()}
            for place in places(160)]
    return ["e2e", "--train", write(folder / "trainset.csv", table(rows, ","))]


def answers(folder: Path) -> list[object]:
    rows = [{"text": f"What does {place.name} serve?", "target": f"{place.food} food.", "label": place.food}
            for place in places(160)]
    return ["tsv", "--train", write(folder / "answers.tsv", table(rows, "\t")), "--task", "generation", "--label",
            "label"]


def llama_like(folder: Path, texts: list[str]) -> Path:
    """Byte-level BPE; texts begin with another token than they end with."""
    return model_folder(folder, byte_level(texts, ["<s>", "</s>"]))


@dataclass(frozen=True)
class Architecture:
    tokenizer: Callable[[Path, list[str]], Path]  # makes the folder
    config: str  # class of transformers, and of the saved model
    model: str
    sizes: dict[str, object]
    data: Callable[[Path], list[object]]  # writes files, and gives the words of jobs/prepare.py


ARCHITECTURES = {
    "bert": Architecture(bert_like, "BertConfig", "BertModel", BERT | {"max_position_embeddings": POSITIONS}, pairs),
    "roberta": Architecture(
        roberta_like, "RobertaConfig", "RobertaModel",
        BERT | {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1, "pad_token_id": 1}, prices,
    ),
    "distilbert": Architecture(
        bert_like, "DistilBertConfig", "DistilBertModel",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": POSITIONS, **WIDE}, areas,
    ),
    "deberta-v2": Architecture(
        deberta_like, "DebertaV2Config", "DebertaV2Model",
        BERT | {"max_position_embeddings": POSITIONS, "type_vocab_size": 0, "relative_attention": True,
                "pos_att_type": "c2p|p2c", "share_att_key": True, "position_biased_input": False,
                "norm_rel_ebd": "layer_norm", "position_buckets": 8, "max_relative_positions": -1}, questions,
    ),
    "gpt2": Architecture(
        gpt2_like, "GPT2Config", "GPT2LMHeadModel",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": POSITIONS, "bos_token_id": 0,
         "eos_token_id": 0, **WIDE}, restaurants,
    ),
    "llama": Architecture(
        llama_like, "LlamaConfig", "LlamaForCausalLM",
        LLAMA | {"bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False}, answers,
    ),
    "qwen2": Architecture(
        gpt2_like, "Qwen2Config", "Qwen2ForCausalLM",
        LLAMA | {"bos_token_id": None, "eos_token_id": 0, "tie_word_embeddings": True}, restaurants,
    ),
}  # fmt: skip


def make_architecture(folder: Path, name: str) -> None:
    """folder/model and folder/data.h5."""
    import torch
    import transformers

    of = ARCHITECTURES[name]
    model = of.tokenizer(folder / "model", [place.sentence() for place in places(160)])
    vocabulary = Tokenizer.from_file(str(model / "tokenizer.json")).get_vocab_size()
    torch.manual_seed(5)
    config = getattr(transformers, of.config)(vocab_size=vocabulary, **of.sizes)
    getattr(transformers, of.model)(config).save_pretrained(model)
    words = of.data(folder)
    share = [] if "--test" in words else ["--test-share", "0.4"]
    made(*words, *share, "--model", model, "--output", folder / "data.h5")


def short_run(folder: Path) -> dict[str, object]:
    """Options of a short run of PF2LoRA, exact, on what make_architecture made."""
    return {"model": folder / "model", "data": folder / "data.h5", "clients": 5, "rounds": 2, "lockstep": 2,
            "partition": "iid", "examples-per-client": 12, "test-examples-per-client": 4, "local-steps": 2,
            "batch-size": 4, "rank": 4, "client-rank": 2, "hypergradient": "exact"}
