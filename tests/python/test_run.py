"""The same bits on any number of ranks, whatever the method, the caches and the stops on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import made_once
from program import (MATRIX, PROGRAM, ROOT, assert_same, bits, contents, digests, needs_program, run, segments,
                     start, stopped)

import analysis

pytestmark = needs_program

# What a run may be made of. Each is run at 1 and at 2 ranks.
VARIANTS = {
    "finite-difference": {"hypergradient": "finite-difference"},
    "central": {"hypergradient": "finite-difference", "finite-difference": "central", "optimizer": "sgd"},
    "first-order": {"hypergradient": "first-order", "targets": "key,attention-output"},
    "joint": {"hypergradient": "joint", "targets": "intermediate,output", "schedule": "cosine", "warmup": 0.3},
    "spectral penalty": {"spectral-penalty": 0.01, "client-rank": 3},
    "homlora": {"algorithm": "homlora", "optimizer-state": "average", "clip": 1},
    "fedit": {"algorithm": "fedit", "optimizer-state": "reset", "weight-decay": 0.01},
    "local": {"algorithm": "local", "adaptation-steps": "none"},
    "centralized": {"algorithm": "centralized"},
    "label-sort": {"partition": "label-sort", "label-sort": 0.8, "validation-share": 0.2},
    "iid": {"partition": "iid", "optimizer-state": "average", "pooling": "mean"},
    "pooled": {"partition": "pooled", "clients": 1, "pooling": "pooler"},
    "all shared out": {"examples-per-client": 0, "test-examples-per-client": 0, "min-examples": 2},
    "personal head": {"head": "personal", "optimizer-state": "reset"},
    "held out": {"held-out-clients": 1, "adaptation-steps": "0,2,5"},
    "fp64": {"precision": "fp64", "client-rank": 0},
    "bf16": {"precision": "bf16"},
    "bf16x3": {"precision": "bf16x3"},
}


def run_once(tmp_path_factory, name: str, options: dict[str, object]) -> Path:
    """The folder of a run that one of the workers makes for all; read it only."""
    return made_once(tmp_path_factory, name,
                     lambda folder: run({**options, "output": folder / "run", "progress": "off"})) / "run"


@pytest.fixture(scope="module")
def long_matrix(tmp_path_factory):
    """Options of a run long enough to be stopped, and its bits."""
    options = {**MATRIX, "clients": 5, "clients-per-round": 3, "lockstep": 1, "rounds": 240, "checkpoint-every": 80,
               "evaluate-every": 40, "spectra-every": 40}
    return options, digests(run_once(tmp_path_factory, "long_matrix", options))


@pytest.mark.parametrize("change", [{}, {"clients-per-round": 3, "lockstep": 2}], ids=["all", "three in lockstep"])
@pytest.mark.parametrize("problem", ["matrix", "text"])
def test_bits_do_not_depend_on_the_number_of_ranks(problem, change, small_text, tmp_path):
    options = {**small_text, **change} if problem == "text" else {**MATRIX, "clients": 5, **change}
    alone = bits(tmp_path / "alone", options)
    for ranks in (1, 2, 4):
        assert_same(bits(tmp_path / str(ranks), options, ranks), alone)


def test_another_seed_gives_other_bits(small_text, tmp_path):
    one = bits(tmp_path / "one", small_text)
    other = bits(tmp_path / "other", {**small_text, "seed": 2})
    same = {name for name in one if one[name] == other[name]}
    assert "results.h5:personal_loss" not in same and "results.h5:train_index" not in same
    assert not [name for name in same if name.startswith("adapters.h5:")]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_method_and_option_gives_the_same_bits_at_one_and_two_ranks(name, small_text, tmp_path):
    options = {**small_text, "rounds": 2, **VARIANTS[name]}
    precision = options.get("precision", "")
    if precision.startswith("bf16") and f" {precision} (" not in " ".join(run({"list": True}).stdout.split()):
        pytest.skip("this processor has no products in it")
    assert_same(bits(tmp_path / "two", options, 2), bits(tmp_path / "one", options))


def listed_methods() -> list[str]:
    """The names under Algorithms that --list prints."""
    if not PROGRAM.is_file():
        return []
    lines = run({"list": True}).stdout.split("\n\n")[0].splitlines()
    assert lines[0].startswith("Algorithms"), lines
    return [line.split()[0] for line in lines[1:]]


# Options that make more of a method happen in three short rounds.
TELLING = {
    "hetlora": {"min-rank": 1, "pruning": 0.5, "tail-penalty": 1},
    "flexlora": {"client-ranks": "2,4,3"},
    "fedrep": {"head-steps": 2},
    "feddpa-f": {"local-rounds": 2},
    "fedfmsl": {"stage-one-rounds": 1},
    "prompt": {"client-prompts": 2, "prompts": 4},
    "prefix": {"client-prompts": 2, "prompts": 4},
}


@pytest.fixture(scope="module", params=listed_methods())
def method(request, small_text, tmp_path_factory):
    """Options of a short run of a method, in which not every client takes part in every round, its bits and files."""
    options = {**small_text, "local-steps": 2, "examples-per-client": 16, "test-examples-per-client": 10,
               "clients-per-round": 4, "algorithm": request.param, **TELLING.get(request.param, {})}
    output = run_once(tmp_path_factory, f"method_{request.param}", options)
    return options, digests(output), output


def test_the_format_page_names_all_that_a_method_writes(method):
    for name in ("results.h5", "adapters.h5"):
        assert analysis.check_format(method[2] / name) == []


def test_every_method_gives_the_same_bits_at_one_and_four_ranks(method, tmp_path):
    options, alone, _ = method
    assert_same(bits(tmp_path / "run", options, 4), alone)


@pytest.mark.parametrize("lockstep", [1, 4])
def test_every_native_method_gives_the_same_bits_in_any_lockstep(lockstep, method, tmp_path):
    options, alone, _ = method
    if options["algorithm"] in ("prompt", "prefix"):
        pytest.skip("computed by the reference backend, whose products depend on what is beside them")
    assert_same(bits(tmp_path / "run", {**options, "lockstep": lockstep}), alone)


def test_every_method_goes_on_where_it_was_stopped_at_other_numbers_of_ranks(method, tmp_path):
    options, whole, _ = method
    output = tmp_path / "run"
    run({**options, "output": output, "progress": "off", "max-hours": 1e-6}, 2, code=85)  # after a round
    run({"resume": True, "output": output, "max-hours": 0}, 4)
    assert segments(output)["last_round"] == [1, 3]
    assert_same(digests(output), whole)
    for name in ("results.h5", "adapters.h5"):
        assert analysis.check_format(output / name) == []


@pytest.mark.parametrize("algorithm", ["homlora", "fedit", "local", "hetlora", "flora", "flexlora", "fedex-lora",
                                       "ditto"])
def test_methods_give_the_same_bits_on_the_matrix_problem(algorithm, tmp_path):
    options = {**MATRIX, "clients": 3, "algorithm": algorithm}
    assert_same(bits(tmp_path / "two", options, 2), bits(tmp_path / "one", options))


def test_the_pretrained_model_gives_the_same_bits_whatever_is_cached(small_text, tmp_path):
    options = {**small_text, "model": ROOT / "models" / "minilm", "adapted-layers": "top:1", "rounds": 2, "clients": 3,
               "local-steps": 2, "examples-per-client": 16, "test-examples-per-client": 8}
    full = bits(tmp_path / "full", {**options, "prefix-cache": 2048})
    assert_same(bits(tmp_path / "two", {**options, "prefix-cache": 2048}, 2), full)
    assert_same(bits(tmp_path / "off", {**options, "prefix-cache": 0}), full)
    assert_same(bits(tmp_path / "tiny", {**options, "prefix-cache": 1}), full)


def test_the_pretrained_model_gives_the_same_bits_on_any_number_of_threads(small_text, tmp_path):
    options = {**small_text, "model": ROOT / "models" / "minilm", "rounds": 1, "clients": 2, "local-steps": 2,
               "examples-per-client": 16, "test-examples-per-client": 8}
    one = bits(tmp_path / "one", options)
    for threads in (2, 3):
        assert_same(bits(tmp_path / str(threads), {**options, "threads": threads}), one)


def test_clients_that_keep_nothing_take_no_memory(tmp_path):
    options = {**MATRIX, "algorithm": "homlora", "client-rank": None, "client-learning-rate": None,
               "optimizer": "adamw", "rounds": 2}

    def peak(state: str) -> int:  # KiB
        process = start({**options, "optimizer-state": state, "output": tmp_path / state})
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0, process.stderr.read()
        return used.ru_maxrss

    assert peak("reset") < peak("keep") + (100 << 10)


def test_threads_that_share_a_core_are_told(tmp_path):
    core = min(os.sched_getaffinity(0))
    for ranks in 1, 2:
        options = {**MATRIX, "rounds": 1, "threads": 3, "output": tmp_path / str(ranks), "progress": "lines"}
        process = start(options, ranks, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert f"have {3 * ranks} threads" in out and "physical cores: 1;" in out
        assert "slot:PE=3" in out and "--cpus-per-task=3" in out
    assert "take turns" not in run({**options, "threads": 1, "output": tmp_path / "one"}).stdout


@pytest.mark.parametrize("change", [{"prefix-cache": 0}, {"prefix-cache": 1}], ids=["off", "tiny"])
def test_the_cache_of_a_small_model_changes_no_bits(change, small_text, tmp_path):
    options = {**small_text, "adapted-layers": "top:1"}
    assert_same(bits(tmp_path / "cut", {**options, **change}, 2), bits(tmp_path / "full", options))


# Stop and resume


@pytest.mark.parametrize("first,second,number", [(1, 4, signal.SIGUSR1), (2, 1, signal.SIGUSR1), (4, 2, signal.SIGUSR1),
                                                 (0, 2, signal.SIGTERM)])
def test_a_run_stopped_by_a_signal_resumes_to_the_bits_of_an_uninterrupted_one(first, second, number, long_matrix,
                                                                                tmp_path):
    options = {**long_matrix[0], "output": tmp_path / "run"}
    errors = stopped(options, first, number)
    assert errors.count("pf2lora: ") == 1 and number.name in errors and "--resume" in errors
    assert "--max-hours" not in errors
    with h5py.File(tmp_path / "run" / "results.h5") as file:  # what there is so far
        assert 0 < file["round"].size < options["rounds"]
        assert not np.isnan(file["train_loss"][...]).all(axis=1).any()
    run({**options, "resume": True, "progress": "off"}, second)
    assert_same(digests(tmp_path / "run"), long_matrix[1])


def test_a_stopped_run_sums_up_what_there_is(tmp_path):
    options = {**MATRIX, "rounds": 3, "output": tmp_path / "run", "progress": "lines"}
    for change, code in (({"max-hours": 1e-6}, 85), ({"resume": True, "max-hours": 0}, 0)):
        page = run({**options, **change}, 2, code=code).stdout
        summary, files = page.split("\nFiles\n")
        assert ("stopped after 1 of 3 rounds" in summary) != ("3 rounds done" in summary)
        named = {Path(line.split()[1]) for line in files.splitlines() if line.startswith("  ")}
        assert named == {path for path in (tmp_path / "run").iterdir() if path.suffix in (".h5", ".ini")}


@pytest.mark.parametrize("change", [{"spectral-penalty": 0.01},
                                    {"algorithm": "homlora", "optimizer-state": "average", "head": "personal"}],
                         ids=["spectral penalty", "averaged state"])
def test_a_time_limit_stops_a_run_that_resumes_at_other_numbers_of_ranks(change, small_text, tmp_path):
    options = {**small_text, "clients-per-round": 3, "checkpoint-every": 0, **change}
    whole = bits(tmp_path / "whole", options)
    options |= {"output": tmp_path / "run", "progress": "off"}
    limit = {"max-hours": 1e-6}
    done = run({**options, **limit}, 2, code=85)
    assert "stopped by --max-hours 1e-06" in done.stderr and done.stderr.count("pf2lora: ") == 1
    assert "--resume" in done.stderr and "--max-hours 0 for no time limit" in done.stderr
    run({**options, **limit, "resume": True}, 4, code=85)
    with h5py.File(tmp_path / "run" / "results.h5") as file:
        assert file["round"][...].tolist() == [1, 2]
    run({**options, "resume": True}, 1)
    assert_same(digests(tmp_path / "run"), whole)


def test_every_start_of_a_run_is_recorded_and_the_first_one_is_not_overwritten(tmp_path):
    output = tmp_path / "run"
    run({**MATRIX, "output": output, "max-hours": 1e-6, "progress": "off"}, 2, code=85)
    with h5py.File(output / "results.h5") as file:
        first = dict(file.attrs)
        assert "end_utc" not in first
    run({"resume": True, "output": output, "max-hours": 0}, 1)
    run({"resume": True, "output": output}, 4)  # nothing is left to do
    run({"resume": True, "output": output, "rounds": 25})
    found = segments(output)
    assert found["first_round"] == [1, 2, 21] and found["last_round"] == [1, 20, 25]
    assert found["exit"] == ["--max-hours 1e-06", "done", "done"]
    assert found["ranks"] == [2, 1, 1] and found["threads"] == [1, 1, 1]
    assert found["start_utc"] == sorted(found["start_utc"]) and "" not in found["end_utc"]
    assert [words.count("--resume") for words in found["command_line"]] == [0, 1, 1]
    assert "--rounds 25" in found["command_line"][2]
    with h5py.File(output / "results.h5") as file:
        now = dict(file.attrs)
        assert now.pop("end_utc") == found["end_utc"][2] and now.pop("last_round") == 25
        assert file["options"].attrs["rounds"] == 25
    assert {name: str(value) for name, value in now.items()} == {
        name: str(value) for name, value in first.items() if name != "last_round"}
    assert analysis.check_format(output / "results.h5") == []


def test_resume_takes_the_options_of_the_run(small_text, tmp_path):
    options = {**small_text, "checkpoint-every": 0, "hypergradient": "joint", "learning-rate": 3e-3}
    whole = bits(tmp_path / "whole", options)
    run({**options, "output": tmp_path / "run", "max-hours": 1e-6, "overwrite": True, "progress": "off"}, 2, code=85)
    (tmp_path / "run").rename(tmp_path / "moved")
    run({"resume": True, "output": tmp_path / "moved", "max-hours": 0})
    assert_same(digests(tmp_path / "moved"), whole)
    run({"config": tmp_path / "moved" / "options.ini", "output": tmp_path / "again"})
    assert_same(digests(tmp_path / "again"), whole)


def test_another_number_of_threads_is_noted_by_resume(tmp_path):
    options = {**MATRIX, "output": tmp_path / "run", "progress": "lines"}
    run({**options, "max-hours": 1e-6}, code=85)
    resume = {"resume": True, "output": tmp_path / "run", "max-hours": 1e-6}
    assert "last digits" not in run(resume, code=85).stdout
    assert "--threads is 2 from here on and was 1" in run({**resume, "threads": 2}, code=85).stdout


def test_a_finished_run_resumed_with_more_rounds_is_the_longer_run(tmp_path):
    longer = bits(tmp_path / "longer", {**MATRIX, "rounds": 30})
    bits(tmp_path / "run", {**MATRIX, "rounds": 20}, 2)
    run({**MATRIX, "rounds": 30, "output": tmp_path / "run", "resume": True, "progress": "off"}, 1)
    assert_same(digests(tmp_path / "run"), longer)


@pytest.mark.parametrize("change", [{}, {"max-hours": 2, "progress": "lines"}, {"dry-run": True}],
                         ids=["alone", "with options", "dry run"])
def test_resuming_a_finished_run_says_so_and_changes_no_file(change, tmp_path):
    output = tmp_path / "run"
    run({**MATRIX, "output": output})
    before = contents(output), {file: file.stat().st_mtime_ns for file in output.iterdir()}
    for ranks in (0, 2):
        done = run({**change, "output": output, "resume": True}, ranks)
        assert done.stdout.splitlines() == [
            f"the run in {output} is complete: all 20 rounds are done; --resume with more --rounds goes on"]
        assert not done.stderr
    assert (contents(output), {file: file.stat().st_mtime_ns for file in output.iterdir()}) == before
