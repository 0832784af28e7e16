"""Runs that are killed at any moment, and two runs that want one directory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import h5py
import pytest

from program import MATRIX, assert_same, bits, children, digests, needs_program, run, segments, start, wait_for
from program import assert_refused, contents

pytestmark = needs_program
LONG = {**MATRIX, "clients": 5, "clients-per-round": 3, "lockstep": 1, "rounds": 240, "checkpoint-every": 4,
        "evaluate-every": 10, "spectra-every": 10}


def kill(process: subprocess.Popen, after: float) -> None:
    """SIGKILL of one rank under mpirun, or of the program itself, some seconds after it has begun."""
    wait_for(process, "rounds")
    time.sleep(after)
    victims = children(process.pid) or [process.pid]
    try:
        os.kill(random.choice(victims), signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate(timeout=60)


def readable(directory) -> None:
    """Every file that bears its final name is whole."""
    for path in directory.rglob("*.h5"):
        with h5py.File(path) as file:
            file.visititems(lambda _, item: item[...] if isinstance(item, h5py.Dataset) else None)


@pytest.mark.parametrize(("seed", "saves"), [
    pytest.param(1, {}, id="saves by rounds"),
    pytest.param(2, {"checkpoint-every": 0, "checkpoint-minutes": 0.002}, id="saves by time")])
def test_a_run_that_is_killed_again_and_again_ends_with_the_bits_of_an_undisturbed_one(seed, saves, tmp_path):
    random.seed(seed)
    began = time.monotonic()
    expected = bits(tmp_path / "undisturbed", LONG)
    whole = time.monotonic() - began
    options = {**LONG, **saves, "output": tmp_path / "run", "progress": "lines"}
    killed = 0
    for ranks in random.sample([0, 1, 2], 3):
        options["resume"] = (tmp_path / "run" / "checkpoint.h5").is_file()
        options["overwrite"] = not options["resume"] and (tmp_path / "run").exists()
        process = start({name: value for name, value in options.items() if value is not False}, ranks)
        kill(process, random.uniform(0, whole / 5))
        killed += process.returncode != 0
        readable(tmp_path / "run")
    assert killed >= 2, "the run is too short to be killed"
    options = {name: value for name, value in options.items() if name not in ("overwrite", "resume")}
    saved = (tmp_path / "run" / "checkpoint.h5").is_file()
    assert saved or not saves, "no checkpoint for the time"
    run({**options, "resume" if saved else "overwrite": True}, 2)
    assert_same(digests(tmp_path / "run"), expected)
    found = segments(tmp_path / "run")
    assert found["first_round"] == [1, *(last + 1 for last in found["last_round"][:-1])]
    assert found["last_round"][-1] == LONG["rounds"]
    for reason, end in list(zip(found["exit"], found["end_utc"]))[:-1]:
        assert (reason, end) == ("unknown", "") or reason == "done" and end
    assert found["exit"][-1] == "done" and found["end_utc"][-1]


def test_a_killed_start_stays_marked_so(tmp_path):
    options = {**LONG, "rounds": 20000, "output": tmp_path / "run"}
    process = start({**options, "progress": "lines"})
    wait_for(process, "loss")
    while not (tmp_path / "run" / "checkpoint.h5").is_file():
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    run({"resume": True, "output": tmp_path / "run", "max-hours": 1e-6, "progress": "off"}, 2, code=85)
    found = segments(tmp_path / "run")
    assert found["exit"] == ["unknown", "--max-hours 1e-06"] and found["ranks"] == [1, 2]
    assert found["end_utc"][0] == "" and found["end_utc"][1]
    last = found["last_round"][0]
    assert last % LONG["checkpoint-every"] == 0 and found["first_round"] == [1, last + 1]


def test_a_directory_without_anything_saved_is_taken_again(tmp_path):
    options = {**LONG, "checkpoint-every": 0, "rounds": 20000, "output": tmp_path / "run"}
    process = start({**options, "progress": "lines"})
    wait_for(process, "loss")
    assert_refused(options, 2, ["in use by another run"], tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == ["lock", "options.ini"]
    run({**MATRIX, "output": tmp_path / "run", "progress": "off"})
    assert not (tmp_path / "run" / "lock").exists() and (tmp_path / "run" / "results.h5").is_file()


def test_a_second_run_in_a_directory_is_refused_and_the_first_is_not_disturbed(tmp_path):
    options = {**LONG, "rounds": 20000, "checkpoint-every": 50, "output": tmp_path / "run"}
    process = start({**options, "progress": "lines"}, 2)
    try:
        wait_for(process, "loss")
        for flag in ("overwrite", "resume"):
            while flag == "resume" and not (tmp_path / "run" / "checkpoint.h5").is_file():
                time.sleep(0.05)
            assert_refused({**options, flag: True}, 2, ["in use by another run", "--output"], tmp_path)
        assert process.poll() is None
        process.send_signal(signal.SIGUSR1)
        process.communicate(timeout=60)
        assert process.returncode == 85
    finally:
        process.kill()
    readable(tmp_path / "run")
    assert not (tmp_path / "run" / "lock").exists()
    before = contents(tmp_path / "run")
    assert_refused(options, 2, ["exists", "--resume", "--overwrite"], tmp_path)
    assert contents(tmp_path / "run") == before
