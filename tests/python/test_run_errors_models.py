"""Models, tokenizers and tasks that do not belong together: one message, exit code 3 on every rank, nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from architectures import POSITIONS, make_architecture, places, short_run, table
from conftest import made_once
from preparing import bert_like, prepare, write
from program import assert_refused, needs_program

pytestmark = needs_program
ARCHITECTURES = "bert, roberta, distilbert, deberta-v2, gpt2, llama, qwen2"
ACTIVATIONS = "gelu, gelu_new, gelu_pytorch_tanh, relu, silu"


@pytest.fixture
def copied(tmp_path_factory, tmp_path):
    """copied(NAME): a copy of an architecture's model and data, as options of a run."""

    def copy(name: str) -> dict[str, object]:
        made = made_once(tmp_path_factory, f"of_{name}", lambda folder: make_architecture(folder, name))
        shutil.copytree(made, tmp_path / "made")
        return {**short_run(tmp_path / "made"), "output": tmp_path / "run"}

    return copy


def change_config(options: dict[str, object], **changes: object) -> None:
    path = Path(str(options["model"])) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_refused_unwritten(options: dict[str, object], words: list[str], scratch: Path) -> None:
    assert_refused(options, 3, words, scratch)
    assert not Path(str(options["output"])).exists()


# What config.json says and what the message has to say beside the file's name.
CONFIGURATIONS = {
    "architecture": ("bert", {"model_type": "t5"}, ["architecture 't5'", ARCHITECTURES]),
    "no architecture": ("bert", {"model_type": ""}, ["architecture ''", ARCHITECTURES]),
    "bert's activation": ("bert", {"hidden_act": "mish"}, ["activation 'mish'", ACTIVATIONS]),
    "roberta's activation": ("roberta", {"hidden_act": "gelu_fast"}, ["activation 'gelu_fast'", ACTIVATIONS]),
    "distilbert's activation": ("distilbert", {"activation": "swish"}, ["activation 'swish'", ACTIVATIONS]),
    "deberta's activation": ("deberta-v2", {"hidden_act": "mish"}, ["activation 'mish'", ACTIVATIONS]),
    "the head's activation": ("deberta-v2", {"pooler_hidden_act": "mish"}, ["head's activation 'mish'", "tanh"]),
    "gpt2's activation": ("gpt2", {"activation_function": "mish"}, ["activation 'mish'", ACTIVATIONS]),
    "llama's activation": ("llama", {"hidden_act": "mish"}, ["activation 'mish'", ACTIVATIONS]),
    "qwen2's activation": ("qwen2", {"hidden_act": "mish"}, ["activation 'mish'", ACTIVATIONS]),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_what_is_not_there_is_named_with_what_is(case, copied, tmp_path):
    name, changes, words = CONFIGURATIONS[case]
    options = copied(name)
    change_config(options, **changes)
    assert_refused_unwritten(options, ["config.json", *words, "supported: "], tmp_path)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_data_of_another_tokenizer_are_refused(name, copied, tmp_path):
    """Of as many tokens: nothing else would tell."""
    options = copied(name)
    path = Path(str(options["model"])) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokens = tokenizer["model"]["vocab"]
    one, other = list(tokens)[-2:]
    tokens[one], tokens[other] = tokens[other], tokens[one]
    path.write_text(json.dumps(tokenizer))
    words = ["data.h5", f"{options['model']}/tokenizer.json is another one", f"prepare.py --model {options['model']}"]
    assert_refused_unwritten(options, words, tmp_path)


def test_data_of_a_larger_vocabulary_are_refused(copied, tmp_path):
    options = copied("llama")
    with h5py.File(options["data"], "r+") as file:
        own = int(file.attrs["vocabulary_size"])
        file.attrs["vocabulary_size"] = np.int64(own + 20)
        file["tokens"][3] = own + 7
    words = ["data.h5", f"a vocabulary of {own + 20}", f"has {own};", f"prepare.py --model {options['model']}"]
    assert_refused_unwritten(options, words, tmp_path)


def test_a_token_beyond_the_vocabulary_is_refused(copied, tmp_path):
    options = copied("qwen2")
    with h5py.File(options["data"], "r+") as file:
        own = int(file.attrs["vocabulary_size"])
        file["tokens"][3] = own
    words = ["data.h5", "example 0", f"token {own} is outside the vocabulary of {own}", "prepare the file again"]
    assert_refused_unwritten(options, words, tmp_path)


# What a task learns from; each of an architecture whose data are for the task.
LEARNED = {"labels": "bert", "values": "roberta", "span": "deberta-v2", "target": "gpt2"}


@pytest.mark.parametrize("column", LEARNED)
def test_a_task_without_its_labels_is_refused(column, copied, tmp_path):
    options = copied(LEARNED[column])
    with h5py.File(options["data"], "r+") as file:
        del file[column]
    words = ["data.h5", f"has no dataset '{column}'", "prepare the file again with jobs/prepare.py"]
    assert_refused_unwritten(options, words, tmp_path)


def longer_first(file: h5py.File, length: int, target: int | None) -> None:
    """Makes the first example `length` tokens long; what is learned of it begins at `target`."""
    tokens, offsets = file["tokens"][...], file["offsets"][...]
    more = length - int(offsets[1])
    del file["tokens"], file["offsets"]
    file["tokens"] = np.concatenate([np.full(more, tokens[0], tokens.dtype), tokens])
    file["offsets"] = np.concatenate([offsets[:1], offsets[1:] + more])
    file.attrs["max_length"] = np.int64(length)
    if target is not None:
        file["target"][0] = target


def test_a_target_beyond_the_context_is_refused(copied, tmp_path):
    options = copied("gpt2")
    with h5py.File(options["data"], "r+") as file:
        longer_first(file, POSITIONS + 9, POSITIONS + 2)
    words = ["data.h5", "row 0", f"{POSITIONS + 9} tokens", f"{POSITIONS} positions", f"--max-length {POSITIONS}"]
    assert_refused_unwritten(options, words, tmp_path)


@pytest.mark.parametrize("beyond", [0, 5])
def test_a_target_beyond_its_example_is_refused(beyond, copied, tmp_path):
    options = copied("llama")
    with h5py.File(options["data"], "r+") as file:
        length = int(file["offsets"][1])
        file["target"][0] = length + beyond
    words = ["data.h5", "example 0", f"target {length + beyond}", f"of its {length} tokens", "jobs/prepare.py"]
    assert_refused_unwritten(options, words, tmp_path)


# What jobs/prepare.py says of the same


def assert_not_prepared(arguments: list[object], words: list[str], output: Path) -> None:
    done = prepare(*arguments, "--output", output)
    errors = [line for line in done.stderr.splitlines() if line.startswith("prepare.py: error: ")]
    assert (done.returncode, len(errors)) == (3, 1), done.stderr
    for word in words:
        assert word in errors[0], errors[0]
    assert not output.exists()


def test_a_table_without_labels_is_not_prepared(copied, tmp_path):
    rows = [{"text": place.sentence(), "area": place.area} for place in places(20)]
    train = write(tmp_path / "rows.tsv", table(rows, "\t"))
    decoder = ["--model", copied("gpt2")["model"], "--task", "generation"]
    encoder = ["--model", bert_like(tmp_path / "bert", [row["text"] for row in rows])]
    for more, column in ((encoder, "label"), ([*encoder, "--task", "regression"], "label"), (decoder, "target")):
        words = ["rows.tsv", f"'{column}'", "text, area", f"--{column}"]
        assert_not_prepared(["tsv", "--train", train, *more], words, tmp_path / "out.h5")


def test_a_tokenizer_that_is_larger_than_the_model_is_not_used(copied, tmp_path):
    options = copied("bert")
    change_config(options, vocab_size=20)
    train = write(tmp_path / "rows.tsv", "text\tlabel\n" + "".join(f"{p.sentence()}\t{p.area}\n" for p in places(20)))
    words = [str(options["model"]), "beyond the model's vocabulary of 20", "tokenizer.json and config.json"]
    assert_not_prepared(["tsv", "--train", train, "--model", options["model"]], words, tmp_path / "out.h5")


def test_targets_beyond_the_context_are_not_prepared(copied, tmp_path):
    options = copied("gpt2")
    rows = [{"text": place.name, "target": place.sentence() * 9} for place in places(20)]
    train = write(tmp_path / "rows.tsv", table(rows, "\t"))
    done = prepare("tsv", "--task", "generation", "--train", train, "--model", options["model"], "--output",
                   tmp_path / "out.h5")  # fmt: skip
    assert done.returncode == 3 and f"target too long for --max-length {POSITIONS}" in done.stderr
    assert done.stderr.count("error: ") == 1 and "no row is left" in done.stderr
