"""Bad input: one message, one exit code on every rank, nothing written over."""

from __future__ import annotations

import json
import re
import resource
import shutil

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from program import MATRIX, assert_refused, assert_same, bits, contents, digests, needs_program, refusal, run, start

pytestmark = needs_program

# Cases that are also run without mpirun, as all are at two ranks; one of each kind.
ALONE_TOO = {"unknown option", "no weights", "foreign format", "rank"}


def ranks_of(name: str) -> tuple[int, ...]:
    return (0, 2) if name in ALONE_TOO else (2,)


# Changed options of a run on text, its exit code and what the message has to say.
OPTIONS = {
    "unknown option": ({"learning-rat": 1}, 2, ["'learning-rat' is not known", "learning-rate"]),
    "unknown algorithm": ({"algorithm": "pf2lor"}, 2, ["'pf2lor' is not known", "pf2lora, homlora", "mean 'pf2lora'"]),
    "unknown choice": ({"partition": "dirichlett"}, 2, ["partition", "dirichlett", "label-sort"]),
    "a foreign method's option": ({"algorithm": "homlora", "hypergradient": "exact"}, 2,
                                  ["hypergradient", "pf2lora", "homlora"]),
    "below its bound": ({"rank": 0}, 2, ["rank", "0", "1"]),
    "above its bound": ({"dirichlet-alpha": 2000}, 2, ["dirichlet-alpha", "2000", "1000"]),
    "not a number": ({"learning-rate": "fast"}, 2, ["learning-rate", "'fast'"]),
    "not a whole number": ({"batch-size": 2.5}, 2, ["batch-size", "2.5"]),
    "no finite number": ({"learning-rate": "nan"}, 2, ["learning-rate", "nan"]),
    "a layer that is not there": ({"adapted-layers": "5"}, 2, ["adapted-layers", "5"]),
    "no configuration file": ({"config": "nowhere.ini"}, 2, ["config", "'nowhere.ini'"]),
    "clients a round": ({"clients-per-round": 9}, 2, ["clients-per-round", "9"]),
    "everyone held out": ({"held-out-clients": 5}, 2, ["held-out-clients", "5"]),
    "resume and overwrite": ({"resume": True, "overwrite": True}, 2, ["exclude"]),
    "no model": ({"model": "nowhere"}, 3, ["nowhere", "config.json"]),
    "no data": ({"data": "nowhere.h5"}, 3, [".venv/bin/python jobs/prepare.py DATASET --output nowhere.h5"]),
    "no default data": ({"data": "nowhere/wordnet.h5"}, 3, ["prepare.py wordnet --output nowhere/wordnet.h5"]),
    "more clients than examples": ({"clients": 400, "examples-per-client": 1, "min-examples": 1}, 2, ["400"]),
    "too few examples for all": ({"examples-per-client": 200}, 2, ["examples-per-client"]),
    "too few examples for min-examples": ({"examples-per-client": 20, "min-examples": 30}, 2, ["min-examples", "30"]),
    "a skew that starves clients": ({"examples-per-client": 0, "test-examples-per-client": 0, "clients": 30,
                                     "dirichlet-alpha": 0.001, "min-examples": 10}, 2, ["min-examples"]),
    "centralized matrices": ({"problem": "matrix", "algorithm": "centralized"}, 2, ["centralized", "matrix"]),
    "bf16x3 without our backend": ({"precision": "bf16x3", "backend": "reference"}, 2,
                                   ["--precision bf16x3", "--backend reference", "--precision fp32"]),
    "bf16x3 of matrices": ({"problem": "matrix", "precision": "bf16x3"}, 2, ["bf16x3", "matrix", "fp64"]),
    "targets that do not fit": ({"problem": "matrix", "matrix-rows": 2}, 2, ["matrix-rows"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options_are_refused(name, small_text, tmp_path):
    change, code, words = OPTIONS[name]
    output = tmp_path / "run"
    assert_refused({**small_text, **change, "output": output}, code, words, tmp_path, ranks_of(name))
    assert not output.exists()


def test_mpirun_ends_with_the_exit_code_and_one_message(small_text):
    done = run({**small_text, "rank": 0}, 2, code=2)
    assert done.stderr.count("pf2lora: ") == 1


def test_an_ini_file_is_named_with_its_line(tmp_path):
    (tmp_path / "bad.ini").write_text("rounds = 3\nrnak = 8\n")
    assert_refused({"config": tmp_path / "bad.ini"}, 2, ["bad.ini, line 2", "'rnak'", "rank"], tmp_path)


# Models


def edited_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def cut_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def empty_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")


def other_bytes(folder):
    (folder / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(5000))


def huge_header(folder):
    (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + bytes(5000))


def other_tensors(folder):
    save_file({"transformer.h.0.attn.c_attn.weight": np.zeros((4, 4), np.float32)}, folder / "model.safetensors")


def other_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.attention.self.query.weight"
    tensors[name] = np.zeros((32, 64), np.float32)
    save_file(tensors, folder / "model.safetensors")


def other_type(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.weight"] = tensors["encoder.layer.0.output.dense.weight"].astype(np.int32)
    save_file(tensors, folder / "model.safetensors")


MODELS = {
    "no weights": (without_weights, ["model.safetensors"]),
    "cut weights": (cut_weights, ["model.safetensors"]),
    "cut header": (cut_header, ["model.safetensors"]),
    "empty weights": (empty_weights, ["model.safetensors"]),
    "other bytes": (other_bytes, ["model.safetensors"]),
    "huge header": (huge_header, ["model.safetensors"]),
    "another model's tensors": (other_tensors, ["model.safetensors"]),
    "a tensor of another shape": (other_shape, ["encoder.layer.1.attention.self.query.weight"]),
    "a tensor of integers": (other_type, ["encoder.layer.0.output.dense.weight"]),
    "unsupported architecture": (lambda f: edited_config(f, model_type="t5"), ["'t5'", "bert"]),
    "unsupported activation": (lambda f: edited_config(f, hidden_act="mish"), ["'mish'"]),
    "unsupported positions": (lambda f: edited_config(f, position_embedding_type="relative_key"), ["relative_key"]),
    "more layers than weights": (lambda f: edited_config(f, num_hidden_layers=3), ["encoder.layer.2"]),
    "heads that do not divide": (lambda f: edited_config(f, num_attention_heads=7), ["7"]),
    "no json": (lambda f: (f / "config.json").write_text("{"), ["config.json"]),
    "a smaller vocabulary": (lambda f: edited_config(f, vocab_size=100), ["100"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_bad_models_are_refused(name, small_text, tmp_path):
    change, words = MODELS[name]
    shutil.copytree(small_text["model"], tmp_path / "model")
    change(tmp_path / "model")
    options = {**small_text, "model": tmp_path / "model", "output": tmp_path / "run"}
    assert_refused(options, 3, words, tmp_path, ranks_of(name))
    assert not (tmp_path / "run").exists()


# Data


def longer_example(file, length):
    """Makes the first example `length` tokens long."""
    tokens, offsets = file["tokens"][...], file["offsets"][...]
    more = length - int(offsets[1])
    rest = file["offsets"].dtype
    del file["tokens"], file["offsets"]
    file["tokens"] = np.concatenate([np.full(more, tokens[1], tokens.dtype), tokens])
    file["offsets"] = np.concatenate([offsets[:1], offsets[1:] + more]).astype(rest)
    file.attrs["max_length"] = np.int64(length)


def set_first(file, name, value):
    file[name][0] = value


def beyond_the_model(file):
    file["tokens"][3] = 40000
    file.attrs["vocabulary_size"] = np.int64(50000)


DATA = {
    "foreign format": (lambda f: f.attrs.__setitem__("format", "pf2lora-results"), ["format", "pf2lora-results"]),
    "another version": (lambda f: f.attrs.__setitem__("format_version", np.int64(9)), ["format_version", "9"]),
    "a version that had one task": (lambda f: f.attrs.__setitem__("format_version", np.int64(1)), ["prepare.py"]),
    "an unknown task": (lambda f: f.attrs.__setitem__("task", "ranking"), ["'ranking'", "classification, regression"]),
    "a task without its columns": (lambda f: f.attrs.__setitem__("task", "span"), ["no dataset 'span'"]),
    "no maximum length": (lambda f: f.attrs.__delitem__("max_length"), ["max_length"]),
    "an attribute of another type": (lambda f: f.attrs.__setitem__("max_length", "long"), ["max_length"]),
    "no labels": (lambda f: f.__delitem__("labels"), ["labels"]),
    "a token beyond the vocabulary": (lambda f: set_first(f, "tokens", 30522), ["example 0", "30522"]),
    "a negative token": (lambda f: set_first(f, "tokens", -1), ["example 0", "-1"]),
    "a token beyond the model's vocabulary": (beyond_the_model, ["30522"]),
    "a label beyond the classes": (lambda f: set_first(f, "labels", 6), ["example 0", "label 6", "6 classes"]),
    "an unknown split": (lambda f: set_first(f, "split", 3), ["example 0", "split 3"]),
    "offsets that go back": (lambda f: f["offsets"].__setitem__(2, 0), ["example 1"]),
    "a token type beyond the model's": (lambda f: f.__setitem__("token_types", np.full(f["tokens"].shape, 2, np.int8)),
                                        ["type 2", "tells 2 apart"]),
    "longer than the model's positions": (lambda f: longer_example(f, 80), ["80", "64"]),
}


@pytest.mark.parametrize("name", DATA)
def test_bad_data_is_refused(name, small_text, tmp_path):
    change, words = DATA[name]
    shutil.copy(small_text["data"], tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5", "r+") as file:
        change(file)
    options = {**small_text, "data": tmp_path / "data.h5", "output": tmp_path / "run"}
    assert_refused(options, 3, ["data.h5", *words], tmp_path, ranks_of(name))
    assert not (tmp_path / "run").exists()


def test_a_damaged_dataset_file_is_refused(small_text, tmp_path):
    content = small_text["data"].read_bytes()
    for name, damaged in (("cut.h5", content[:-500]), ("text.h5", b"text\tlabel\n"), ("empty.h5", b"")):
        (tmp_path / name).write_bytes(damaged)
        assert_refused({**small_text, "data": tmp_path / name, "output": tmp_path / "run"}, 3, [name], tmp_path)
    assert not (tmp_path / "run").exists()


# Output


def test_an_output_that_stands_or_cannot_be_made_is_refused(small_text, tmp_path):
    keep = tmp_path / "precious"
    keep.mkdir()
    (keep / "results.h5").write_text("of another program")
    before = contents(tmp_path)
    for options in (small_text, MATRIX):
        assert_refused({**options, "output": keep}, 2, ["precious", "exists"], tmp_path, (0, 2))
    file = keep / "results.h5"
    assert_refused({**MATRIX, "output": file}, 2, ["results.h5"], tmp_path)
    assert_refused({**MATRIX, "output": file / "run"}, 2, ["results.h5"], tmp_path)
    assert_refused({**MATRIX, "output": file, "overwrite": True}, 2, ["results.h5"], tmp_path)
    assert_refused({**MATRIX, "output": "/proc/pf2lora/run"}, 2, ["/proc"], tmp_path)
    assert contents(tmp_path) == before


def test_overwrite_replaces_the_programs_files_and_no_others(tmp_path):
    first = bits(tmp_path / "run", MATRIX)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    again = bits(tmp_path / "run", {**MATRIX, "overwrite": True, "seed": 2})
    assert again != first
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_clients_that_no_round_draws_are_announced(tmp_path):
    few = {**MATRIX, "clients": 40, "clients-per-round": 2, "rounds": 2, "output": tmp_path / "run"}
    assert "about 36 of 40 are drawn in none of the rounds" in run({**few, "dry-run": True}).stdout
    assert "drawn in none" not in run({**few, "clients-per-round": 40, "dry-run": True}).stdout
    run({**few, "progress": "off"})
    with h5py.File(few["output"] / "results.h5") as file:
        assert 36 <= np.sum(~file["took_part"][...].astype(bool).any(0)) <= 38


def test_a_dry_run_checks_everything_and_writes_nothing(small_text, tmp_path):
    done = run({**small_text, "output": tmp_path / "run", "dry-run": True}, 4)
    assert not (tmp_path / "run").exists() and not done.stderr
    assert "without a group of clients in round 1: rank 3; start fewer" in done.stdout, done.stdout
    # 5 clients in lockstep 2 are 3 groups: a forecast for 1, 2 and 3 ranks, of which one computes all the time.
    heading, *rows = done.stdout[done.stdout.index("  on ranks"):].splitlines()[:4]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"] and rows[0].split()[-1] == "100.0%"
    assert re.search(r"rounds 1 to 3, with \d evaluations? +\d", done.stdout)
    assert_refused({**small_text, "data": "nowhere.h5", "dry-run": True}, 3, ["nowhere.h5"], tmp_path)


def test_a_dry_run_whose_steps_diverge_says_so_in_place_of_the_forecast(tmp_path):
    wild = {**MATRIX, "learning-rate": 1e30, "output": tmp_path / "run", "dry-run": True}
    page = run(wild, 2).stdout
    assert "no forecast of the time" in page and "lower --learning-rate" in page and "on ranks" not in page
    assert "no forecast" not in run({**wild, "progress": "off"}, 2).stdout


def test_a_file_that_does_not_fit_ends_the_run_with_one_message_and_costs_nothing_saved(tmp_path):
    """A limit on the size of files stands for the full disk. MPI has its own, so it comes once the run is on its way."""
    options = {**MATRIX, "rounds": 20000, "checkpoint-every": 1, "output": tmp_path / "run", "progress": "lines"}
    process = start(options)
    rounds = (line for line in process.stdout if line.startswith("round"))
    next(rounds), next(rounds)  # the first is saved
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and said.count("pf2lora: ") == 1 and "Signal" not in said, said
    assert "File too large" in said and "free space" in said
    with h5py.File(tmp_path / "run" / "checkpoint.h5") as file:
        rounds = int(file.attrs["round"]) + 2
    run({"resume": True, "rounds": rounds, "output": tmp_path / "run"})
    run({**options, "rounds": rounds, "checkpoint-every": 0, "output": tmp_path / "whole"})
    assert_same(digests(tmp_path / "run"), digests(tmp_path / "whole"))


# Resume


@pytest.fixture(scope="module")
def stopped_run(small_text, tmp_path_factory):
    """A run that was stopped after its first round."""
    options = {**small_text, "output": tmp_path_factory.mktemp("stopped") / "run", "progress": "off"}
    run({**options, "max-hours": 1e-6}, code=85)
    return options


CHANGED = {
    "rank": ({"rank": 3}, 2, ["--rank", "'3'", "'4'"]),
    "algorithm": ({"algorithm": "homlora"}, 2, ["--algorithm", "'homlora'", "'pf2lora'"]),
    "seed": ({"seed": 7}, 2, ["--seed", "'7'"]),
    "method's option": ({"hypergradient": "joint"}, 2, ["--hypergradient", "'joint'", "'exact'"]),
    "lockstep": ({"lockstep": 3}, 2, ["--lockstep"]),
    "clients": ({"clients": 4}, 2, ["--clients"]),
    "several": ({"clients": 4, "seed": 7, "rank": 3, "threads": 2}, 2, ["--clients is '4' (was '5'), --rank is '3' (was "
                                                                       "'4'), --seed is '7' (was '1'), which"]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_option_is_named_by_resume(name, stopped_run, tmp_path):
    change, code, words = CHANGED[name]
    before = contents(stopped_run["output"])
    assert_refused({**stopped_run, **change, "resume": True}, code, ["--resume", *words], tmp_path, ranks_of(name))
    assert contents(stopped_run["output"]) == before


def test_resume_without_a_checkpoint_is_refused(stopped_run, tmp_path):
    absent = tmp_path / "absent"
    assert_refused({**stopped_run, "output": absent, "resume": True}, 2, ["absent", "--resume"], tmp_path)
    assert not absent.exists()
    absent.mkdir()
    (absent / "notes.txt").write_text("mine")
    # A folder of somebody's, such as that of several runs: no word of --overwrite.
    here = {**stopped_run, "output": absent, "resume": True, "progress": "off"}
    (said,) = refusal(here, 2, tmp_path).messages
    assert "absent" in said and "not the directory of a run" in said and "overwrite" not in said
    (absent / "options.ini").write_text("rounds = 3\n")
    assert_refused(here, 2, ["no checkpoint", "absent", "--overwrite"], tmp_path)
    (absent / "options.ini").unlink()
    assert [entry.name for entry in absent.iterdir()] == ["notes.txt"]


def test_other_data_is_refused_by_resume(stopped_run, tmp_path):
    data = tmp_path / "data.h5"
    shutil.copy(stopped_run["data"], data)
    with h5py.File(data, "r+") as file:
        file["labels"][0] = (file["labels"][0] + 1) % 6
    assert_refused({**stopped_run, "data": data, "resume": True}, 3, ["--resume", "data_sha256"], tmp_path)


def test_a_damaged_checkpoint_is_refused(stopped_run, tmp_path):
    content = (stopped_run["output"] / "checkpoint.h5").read_bytes()
    middle = bytearray(content)
    middle[len(content) // 2:len(content) // 2 + 64] = bytes(64)
    for damaged in (content[:-100], bytes(middle), b"", b"no HDF5 at all"):
        run_here = tmp_path / "run"
        shutil.rmtree(run_here, ignore_errors=True)
        shutil.copytree(stopped_run["output"], run_here)
        (run_here / "checkpoint.h5").write_bytes(damaged)
        before = contents(run_here)
        assert_refused({**stopped_run, "output": run_here, "resume": True}, 3, ["checkpoint.h5"], tmp_path)
        assert contents(run_here) == before


def test_lost_segments_are_refused(stopped_run, tmp_path):
    shutil.copytree(stopped_run["output"], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "segments")
    (tmp_path / "run" / "results.h5").unlink()
    assert_refused({**stopped_run, "output": tmp_path / "run", "resume": True}, 3, ["results", "--overwrite"], tmp_path)


# Numbers that are none


@pytest.mark.parametrize("options", [{"learning-rate": 1e30}, {"learning-rate": 1e30, "algorithm": "homlora",
                                                               "optimizer": "sgd", "clients-per-round": 3},
                                     {"client-learning-rate": 1e30}, {"algorithm": "local", "learning-rate": 1e30}],
                         ids=["pf2lora", "homlora", "lower level", "local"])
def test_a_loss_that_is_not_finite_names_client_round_and_step(options, small_text, tmp_path):
    assert_diverges({**small_text, **options}, tmp_path, (2,))


def test_a_run_that_fails_before_anything_is_saved_does_not_block_its_name(tmp_path):
    output = tmp_path / "run"
    run({**MATRIX, "learning-rate": 1e9, "output": output, "progress": "off"}, code=4)
    assert [entry.name for entry in output.iterdir()] == ["options.ini"]
    bits(output, MATRIX)


def test_a_loss_that_grows_large_and_stays_finite_is_noted_once(small_text, tmp_path):
    diverging = {**small_text, "algorithm": "homlora", "optimizer": "sgd", "learning-rate": 10}
    said = run({**diverging, "output": tmp_path / "run"}, 2).stdout
    assert said.count("training diverges") == 1, said
    assert re.search(r"loss of round 1 is .* guessing among 6 classes has 1.792; lower --learning-rate", said), said
    diverging = {**MATRIX, "learning-rate": 0.7, "local-steps": 2, "rounds": 4, "evaluate-every": 0}
    said = run({**diverging, "output": tmp_path / "matrix"}).stdout
    assert re.search(r"loss of round \d is .* while round 1 had .*lower --learning-rate", said), said
    for calm, options in enumerate((small_text, MATRIX)):
        assert "diverges" not in run({**options, "output": tmp_path / str(calm)}).stdout


def test_options_without_effect_are_noted(small_text, tmp_path):
    idle = {**small_text, "dirichlet-alpha": None, "client-rank": None, "partition": "iid", "label-sort": 0.5,
            "client-learning-rate": 0.2, "rounds": 1, "output": tmp_path / "run"}
    wanted = ["--label-sort has no effect with --partition iid"]
    for change in ({"dry-run": True}, {}, {"algorithm": "homlora", "dry-run": True, "output": tmp_path / "other"}):
        if "algorithm" in change:
            wanted.append("--client-learning-rate has no effect with --algorithm homlora")
        said = run({**idle, **change}).stdout
        assert said.count("has no effect") == len(wanted) and all(words in said for words in wanted), said


def test_matrices_that_diverge_are_a_numerical_failure(tmp_path):
    assert_diverges({**MATRIX, "learning-rate": 1e9}, tmp_path, (0, 2))


def assert_diverges(options, scratch, rank_counts):
    for ranks in rank_counts:
        refused = refusal({**options, "output": scratch / str(ranks), "progress": "off"}, ranks, scratch)
        assert refused.codes == [4] * max(ranks, 1), refused
        assert len(refused.messages) == 1, refused
        assert re.search(r"client \d+.*finite.*round \d+, local step \d+", refused.messages[0]), refused
        assert "learning-rate" in refused.messages[0]
