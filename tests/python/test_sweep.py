"""jobs/sweep.py: what runs a sweep file means, and that no run is lost or done twice, whatever is killed."""

from __future__ import annotations

import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import made_once
from program import PROGRAM, ROOT, assert_same, bits, children, contents, digests, environment, needs_program

sys.path.insert(0, str(ROOT / "jobs"))

import sweep  # noqa: E402
from sweep_grid import SweepError, read_sweep  # noqa: E402

SHORT = """
[options]
config = "jobs/experiments/synthetic.ini"
rounds = 20
checkpoint-every = 5
evaluate-every = 5
spectra-every = 10
"""
GRID = SHORT + """
[grid]
seed = [1, 2]
method = [{name = "two levels", algorithm = "pf2lora"}, {name = "homlora", algorithm = "homlora"}]
"""
GRID_PATHS = [f"{method}/seed{seed}" for seed in (1, 2) for method in ("two-levels", "homlora")]


def write(folder: Path, text: str, name: str = "grid.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def call(file: Path, output: Path, *words: str) -> list[str]:
    program = str(ROOT / "jobs" / "sweep.py")
    return [sys.executable, program, str(file), "--output", str(output), "--program", str(PROGRAM), *words]


def run(file: Path, output: Path, *words: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess:
    done = subprocess.run(call(file, output, *words), capture_output=True, text=True, timeout=240,
                          env={**environment(), **environ})
    assert done.returncode == code, done.stdout + done.stderr
    return done


def start(file: Path, output: Path, *words: str) -> subprocess.Popen:
    """For tests that kill runs."""
    return subprocess.Popen(call(file, output, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment(warm=False))


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def starts(output: Path) -> dict[str, list[str]]:
    """By run: 'start', 'resume', 'overwrite' and 'exit N', in the order of its log."""
    found = {}
    for log in sorted((output / "logs").rglob("*.log")):
        events = []
        for line in log.read_text().splitlines():
            if line.startswith("sweep: start"):
                events.append(next((f for f in ("resume", "overwrite") if f"--{f}" in line), "start"))
            elif ended := re.match(r"sweep: (exit -?\d+)", line):
                events.append(ended[1])
        found[str(log.relative_to(output / "logs").with_suffix(""))] = events
    return found


# ---- the grid ---------------------------------------------------------------------------------------------
def test_the_grid_is_the_product_of_its_lists(tmp_path):
    runs = read_sweep(write(tmp_path, """
[options]
config = "a.ini"
targets = ["query", "value"]
[grid]
seed = [3, 4]
setting = [{name = "dir", partition = "dirichlet", vary = {dirichlet-alpha = [0.1, 1]}},
           {name = "iid", partition = "iid"}]
local-steps = [5]
method = [{name = "pf", algorithm = "pf2lora", client-learning-rate = [0.03, 0.1], config = "b.ini"},
          {name = "hom", algorithm = "homlora", learning-rate = 0.5}]
[tune]
learning-rate = [1e-3, 2e-3]
"""), ["--lockstep=4", "--config", "c.ini", "--head", "personal"])
    assert len(runs) == 2 * 3 * (2 * 2 + 1) == len({r.path for r in runs})
    first = runs[0]
    assert first.path == "dir,dirichlet-alpha=0.1/local-steps=5/pf/learning-rate=0.001,client-learning-rate=0.03/seed3"
    assert (first.setting, first.method, first.seed) == ("dir,dirichlet-alpha=0.1, local-steps=5", "pf", "3")
    assert first.tuned == {"learning-rate": "0.001", "client-learning-rate": "0.03"}
    assert first.configs == ("a.ini", "b.ini", "c.ini")
    assert first.options == {"targets": "query,value", "seed": "3", "partition": "dirichlet", "dirichlet-alpha": "0.1",
                             "local-steps": "5", "algorithm": "pf2lora", "learning-rate": "0.001",
                             "client-learning-rate": "0.03", "lockstep": "4", "head": "personal"}
    hom = [r for r in runs if r.method == "hom"]
    assert len(hom) == 6 and all(r.tuned == {} and r.options["learning-rate"] == "0.5" for r in hom)
    assert [r.seed for r in runs] == ["3"] * 15 + ["4"] * 15  # whole comparisons come first


def test_a_sweep_without_axes_is_one_run(tmp_path):
    (only,) = read_sweep(write(tmp_path, SHORT), [])
    assert only.path == "run" and only.options["rounds"] == "20"


@pytest.mark.parametrize("text, words", [
    ("[option]\nseed = 1", ["'option' is not known", "did you mean 'options'"]),
    ("seed = 1", ["'seed' is not known"]),
    ("[grid]\nseed = 1", ["seed must be a list"]),
    ("[grid]\nseed = []", ["seed must be a list that is not empty"]),
    ("[grid]\nseed = [1, 1]", ["seed has a value twice"]),
    ("[grid]\nmethod = [{algorithm = 'homlora'}]", ["method", "needs a name"]),
    ("[grid]\nmethod = [{name = 'a'}, {name = 'a'}]", ["'a' twice"]),
    ("[grid]\nmethod = [{name = 'a'}, {name = '..'}]", ["folder '..'"]),
    ("[grid]\nmethod = [{name = 'a b'}, {name = 'a-b'}]", ["two runs would have the folder 'a-b'"]),
    ("[grid]\nmethod = [{name = 'logs'}]", ["folder 'logs'", "another name"]),
    ("[grid]\nsetting = [{name = 'a', rank = [1, 2]}]", ["'a': rank is a list", "vary"]),
    ("[grid]\nmethod = [{name = 'a', vary = {rank = 4}}]", ["vary: rank must be a list"]),
    ("[grid]\nsetting = [{name = 'a', rank = 1}]\nmethod = [{name = 'b', rank = 2}]", ["rank is given by 'b'"]),
    ("[options]\noutput = 'x'", ["[options]: the sweep sets output itself"]),
    ("[options]\nrank = {a = 1}", ["[options]: rank must be a number"]),
    ("[grid\n", ["is no TOML file"]),
    ("[grid]\nmethod = ['ditto', 'local']", ["method is a list of tables", 'algorithm = ["ditto", "local"]']),
    ("[grid]\nsetting = ['iid']", ["setting is a list of tables", "under the option's name"]),
    ("[grid]\nmethods = [{name = 'a'}]", ["methods is not known", "did you mean 'method'"]),
    ("[grid]\nseeds = [1, 2]", ["seeds is not known", "did you mean 'seed'"]),
])
def test_a_bad_sweep_file_is_named(text, words, tmp_path):
    with pytest.raises(SweepError) as error:
        read_sweep(write(tmp_path, text), [])
    assert all(word in str(error.value) for word in ["grid.toml", *words]), error.value


def test_an_option_of_the_command_line_that_the_grid_varies_is_refused(tmp_path):
    with pytest.raises(SweepError, match="--seed of the command line is varied"):
        read_sweep(write(tmp_path, GRID), ["--seed", "5"])


def test_numbers_of_runs_are_written_as_slurm_does():
    assert sweep.index_ranges([0, 1, 2, 4, 7, 8]) == "0-2,4,7-8" and sweep.index_ranges([]) == ""


def test_the_sweeps_of_the_repository_can_be_read():
    files = list((ROOT / "jobs" / "experiments").rglob("*.toml"))
    assert len(files) >= 3 and all(read_sweep(file, []) for file in files)


# ---- before anything runs ---------------------------------------------------------------------------------
@needs_program
@pytest.mark.parametrize("line, words", [
    ("method = [{name = 'a'}, {name = 'b', hypergradien = 'joint'}]", ["method 'b'", "hypergradien", "did you mean"]),
    ("method = [{name = 'a', vary = {rank = [4, -1]}}]", ["method 'a,rank=-1'", "rank", "-1"]),
    ("seed = [1, -2]", ["seed '-2'", "seed"]),
    ("method = [{name = 'a', learning-rate = [0.1, 0]}]", ["learning-rate '0'", "learning-rate"]),
    ("setting = [{name = 'x', problem = 'transformer', data = 'none.h5'}]", ["setting 'x'", "none.h5"]),
    ("method = [{name = 'a', learning-rate = [0.1, 0.2]}]", ["matrix problem has no validation examples", "vary"]),
    ("setting = [{name = 'x', problem = 'transformer'}]\nmethod = [{name = 'a', rank = [1, 2]}]",
     ["needs validation examples", "test set is never used", "validation-share"]),
])
def test_what_cannot_run_is_named_before_anything_runs(line, words, tmp_path):
    if "transformer" in line and "none.h5" not in line and not (ROOT / "data" / "wordnet.h5").is_file():
        pytest.skip("data/wordnet.h5 is not prepared")
    done = run(write(tmp_path, SHORT + "[grid]\n" + line), tmp_path / "out", code=2)
    message, = done.stderr.strip().splitlines()
    assert message.startswith("sweep: ") and all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


@needs_program
def test_a_dry_run_lists_the_runs_and_makes_nothing(tmp_path):
    file, output = write(tmp_path, GRID), tmp_path / "out"
    lines = run(file, output, "--dry-run").stdout.splitlines()
    assert [line.split() for line in lines[:4]] == [[str(i), "new", path] for i, path in enumerate(GRID_PATHS)]
    assert run(file, output, "--list-index").stdout == "0-3\n"
    assert not output.exists()


# ---- runs -------------------------------------------------------------------------------------------------
@needs_program
def test_a_sweep_runs_all_once_and_a_second_one_nothing(tmp_path):
    file, output = write(tmp_path, GRID), tmp_path / "out"
    done = run(file, output, "--slots", "2")
    assert "4 of 4 runs are done" in done.stdout and "4/4 done" in done.stdout
    assert starts(output) == {path: ["start", "exit 0"] for path in GRID_PATHS}
    expected = bits(tmp_path / "alone", {"config": ROOT / "jobs/experiments/synthetic.ini", "rounds": 20, "seed": 2,
                                         "checkpoint-every": 5, "evaluate-every": 5, "spectra-every": 10,
                                         "algorithm": "homlora"})
    assert_same(digests(output / "homlora" / "seed2"), expected)
    before = contents(output)
    assert "4 of 4 runs are done" in run(file, output).stdout
    assert contents(output) == before
    assert run(file, output, "--list-index").stdout == "\n"


@needs_program
def test_a_run_with_other_options_is_refused_and_one_with_more_rounds_goes_on(tmp_path):
    file, output = write(tmp_path, SHORT), tmp_path / "out"
    run(file, output)
    refused = run(file, output, "--", "--rank", "3", code=2).stderr
    assert "rank is 4 there, not 3" in refused and "--output" in refused
    assert "rounds is 20 there, not 10" in run(file, output, "--", "--rounds", "10", code=2).stderr
    listed = run(file, output, "--dry-run", "--", "--rounds", "30").stdout
    assert re.search(r"^0  to extend +run  \(from 20 to 30 rounds\)$", listed, re.M) and "1 runs, 1 left" in listed
    run(file, output, "--", "--rounds", "30")
    assert starts(output) == {"run": ["start", "exit 0", "resume", "exit 0"]}
    assert "1 of 1 runs are done" in run(file, output, "--", "--rounds=30").stdout


@needs_program
def test_a_failed_run_is_reported_and_stops_no_other(tmp_path):
    file = write(tmp_path, SHORT + """[grid]
method = [{name = "wild", learning-rate = 1e9}, {name = "calm"}]
""")
    output = tmp_path / "out"
    done = run(file, output, "--slots", "1", code=1)
    assert starts(output) == {"wild": ["start", "exit 4"], "calm": ["start", "exit 0"]}
    assert "failed: wild: exit code 4" in done.stderr and "1 of 2 runs are done, 1 failed" in done.stdout
    own = [line for line in done.stderr.splitlines() if line.startswith("    pf2lora: ")]
    assert own and "finite" in own[0]  # the program's own last words
    again = run(file, output, code=1)
    assert len(starts(output)["wild"]) == 2 and "--retry" in again.stderr and "exit code 4" in again.stderr
    run(file, output, "--retry", code=1)
    assert starts(output)["wild"] == ["start", "exit 4", "overwrite", "exit 4"]


LONG_GRID = """
[options]
config = "jobs/experiments/synthetic.ini"
rounds = 160
clients = 4
checkpoint-every = 8
evaluate-every = 80
spectra-every = 80
[grid]
seed = [1, 2, 3]
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Digests of the runs of LONG_GRID, by seed."""
    folder = made_once(tmp_path_factory, "undisturbed",
                       lambda folder: run(write(folder, LONG_GRID), folder / "out", "--slots", "2"))
    return {seed: digests(folder / "out" / f"seed{seed}") for seed in (1, 2, 3)}


def assert_whole(output: Path, undisturbed) -> None:
    """All runs have ended with the bits of undisturbed ones, and none was started again after its end."""
    for seed, expected in undisturbed.items():
        assert_same(digests(output / f"seed{seed}"), expected)
    for events in starts(output).values():
        assert events.count("exit 0") <= 1
        assert "exit 0" not in events or events[-1] == "exit 0"
    for log in (output / "logs").rglob("*.log"):
        assert "in use by another run" not in log.read_text()


@needs_program
@pytest.mark.parametrize("seed", [1, 2])
def test_sweeps_that_are_killed_again_and_again_lose_no_run_and_repeat_none(seed, tmp_path, undisturbed):
    chance, output = random.Random(seed), tmp_path / "out"
    file, killed = write(tmp_path, LONG_GRID), []
    for victim in chance.sample(["sweep", "run", "sweep"], 3):
        process = start(file, output, "--slots", "2")
        wait_until(lambda: process.poll() is not None or (children(process.pid) and list(output.rglob("lock"))))
        time.sleep(chance.uniform(0, 1.0))
        victims = [process.pid] if victim == "sweep" else children(process.pid)
        try:
            os.kill(chance.choice(victims), signal.SIGKILL)
            killed.append(victim)
        except (IndexError, ProcessLookupError):
            pass
        _, errors = process.communicate(timeout=120)
        if victim == "run" and process.returncode:
            assert process.returncode == 1 and "signal SIGKILL" in errors
    assert killed.count("sweep") >= 1
    run(file, output, "--slots", "2")  # runs of a killed sweep may still go on: waited for, not started twice
    assert_whole(output, undisturbed)


@needs_program
@pytest.mark.parametrize("number, slots, ranks", [(signal.SIGINT, 2, 1), (signal.SIGTERM, 1, 2)])
def test_a_stopped_sweep_leaves_all_resumable(number, slots, ranks, tmp_path, undisturbed):
    file, output = write(tmp_path, LONG_GRID), tmp_path / "out"
    words = ("--slots", str(slots), "--ranks", str(ranks))
    process = start(file, output, *words)
    wait_until(lambda: len({path.parent for path in output.rglob("segments/*.h5")}) == slots)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 85, out + errors
    assert f"stopping: {slots} running" in out and "3 left" in out
    assert list(starts(output).values()) == [["start", "exit 85"]] * slots
    assert not list(output.rglob("lock"))
    listed = run(file, output, "--dry-run").stdout.splitlines()
    assert [line.split()[1] for line in listed[:3]] == ["stopped"] * slots + ["new"] * (3 - slots)
    run(file, output, *words)
    assert list(starts(output).values()) == ([["start", "exit 85", "resume", "exit 0"]] * slots
                                             + [["start", "exit 0"]] * (3 - slots))
    assert_whole(output, undisturbed)


@needs_program
def test_a_run_that_stops_by_itself_goes_on(tmp_path, undisturbed):
    """Exit code 85, as by --max-hours: started again until it is done."""
    file, output = write(tmp_path, LONG_GRID), tmp_path / "out"
    process = start(file, output, "--slots", "3")
    wait_until(lambda: len(list(output.rglob("segments/*.h5"))) >= 3)
    os.kill(children(process.pid)[0], signal.SIGUSR1)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    assert sorted(starts(output).values())[-1] == ["start", "exit 85", "resume", "exit 0"]
    assert_whole(output, undisturbed)


@needs_program
def test_two_sweeps_in_one_folder_share_its_runs(tmp_path, undisturbed):
    file, output = write(tmp_path, LONG_GRID), tmp_path / "out"
    both = [start(file, output, "--slots", "1") for _ in range(2)]
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "3 of 3 runs are done" in out, out + errors
    assert starts(output) == {f"seed{seed}": ["start", "exit 0"] for seed in (1, 2, 3)}
    assert_whole(output, undisturbed)


# ---- Slurm ------------------------------------------------------------------------------------------------
FAKE_SBATCH = """#!/usr/bin/env bash
# Runs the tasks of an array one after another; words before the script are options of sbatch.
echo "$@" >>"$FAKE/sbatch.log"
while [[ $1 == --* ]]; do
  case "$1" in --array=*) array="${1#--array=}" ;; esac
  shift
done
for range in ${array//,/ }; do
  range="${range%%%*}"
  for ((i = ${range%-*}; i <= ${range#*-}; ++i)); do
    export SLURM_SUBMIT_DIR="$PWD" SLURM_JOB_ID="7$i" SLURM_ARRAY_TASK_ID="$i" SLURM_CPUS_PER_TASK=1
    bash "$@" || echo "task $i: $?"
  done
done
"""
FAKE_SRUN = """#!/usr/bin/env bash
while [[ $1 != /* ]]; do shift; done
"$@" &
child=$!
if [[ -e $FAKE/interrupt ]]; then
  rm "$FAKE/interrupt"
  until ls "$FAKE"/out/seed*/segments/*.h5 >/dev/null 2>&1; do sleep 0.05; done
  kill -USR1 "$child"
fi
wait "$child"
"""
FAKE_SCONTROL = """#!/usr/bin/env bash
echo "$@" >>"$FAKE/scontrol.log"
"""


@needs_program
def test_a_job_array_runs_what_is_left_and_requeues_what_was_stopped(tmp_path, undisturbed):
    for name, text in (("sbatch", FAKE_SBATCH), ("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL)):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(text)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    fake = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "FAKE": str(tmp_path)}
    file, output = write(tmp_path, LONG_GRID), tmp_path / "out"
    printed = run(file, output, "--slurm", "--dry-run", "--slots", "4", "--sbatch=--time=1:00:00", **fake).stdout
    assert "--array=0-2%4" in printed and "--time=1:00:00" in printed and not output.exists()

    run(file, output, "--index", "1", **fake)
    (tmp_path / "interrupt").touch()
    done = run(file, output, "--slurm", **fake)
    assert "--array=0,2 " in (tmp_path / "sbatch.log").read_text() and "task 0: 85" in done.stdout
    assert (tmp_path / "scontrol.log").read_text() == "requeue 70\n"
    assert starts(output)["seed1"] == ["start", "exit 85"] and starts(output)["seed3"] == ["start", "exit 0"]
    file.write_text("this is no sweep any more")  # the array keeps the file as it was
    kept, = (output / "logs").glob("grid-*.toml")
    run(kept, output, "--slurm", **fake)
    assert starts(output)["seed1"] == ["start", "exit 85", "resume", "exit 0"]
    assert_whole(output, undisturbed)


@needs_program
def test_a_number_beyond_the_sweep_is_bad_use(tmp_path):
    assert "0 to 3" in run(write(tmp_path, GRID), tmp_path / "out", "--index", "4", code=2).stderr
