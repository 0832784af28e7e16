"""Runs the program, alone or by mpirun, and reads what it leaves: shared by the tests that drive it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
# What stands for the program, and starts in a fraction of its time where conftest.py has started the server.
PROGRAM = Path(os.environ.get("PF2LORA_PROGRAM", ROOT / "build" / "release" / "tests" / "warm" / "pf2lora"))
needs_program = pytest.mark.skipif(not PROGRAM.is_file(), reason=f"{PROGRAM} is not built")
# Of results.h5: what depends on clocks, on the number of ranks, and on where a run was cut (segment, segment_*).
TIMED = ("phase_seconds", "process", "segment")

sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

# The synthetic problem, cut short. The options stand in the order in which the program gets them.
MATRIX = {"problem": "matrix", "clients": 2, "rank": 4, "client-rank": 1, "optimizer": "sgd", "learning-rate": 0.02,
          "client-learning-rate": 0.02, "rounds": 20, "checkpoint-every": 5, "evaluate-every": 5, "spectra-every": 5}


def environment(warm: bool = True) -> dict[str, str]:
    """Ranks that wait let others run: several tests share the cores. A start that is not warm is a child process."""
    names = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
             "OMPI_MCA_mpi_yield_when_idle": "1"}
    found = {**os.environ, **names}
    if not warm:
        found.pop("PF2LORA_WARM_SERVER", None)
    return found


def arguments(options: dict[str, object]) -> list[str]:
    """The command line of options; a flag is True, and None leaves an option out."""
    words = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words


def command(options: dict[str, object], ranks: int) -> list[str]:
    """Without mpirun where ranks is 0."""
    launcher = ["mpirun", "-q", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks else []
    return [*launcher, str(PROGRAM), *arguments(options)]


def start(options: dict[str, object], ranks: int = 0, **how) -> subprocess.Popen[str]:
    """For tests that look at the process itself, or kill it."""
    return subprocess.Popen(command(options, ranks), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment(warm=False), cwd=ROOT, **how)


def run(options: dict[str, object], ranks: int = 0, code: int = 0, timeout: float = 240) -> subprocess.CompletedProcess:
    done = subprocess.run(command(options, ranks), capture_output=True, text=True, env=environment(), cwd=ROOT,
                          timeout=timeout)
    assert done.returncode == code, f"exit {done.returncode} of {done.args}\n{done.stdout}{done.stderr}"
    return done


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every dataset of results.h5 (but TIMED) and of adapters.h5, by name."""
    found = {}

    def add(file: str):
        def visit(name, item):
            if not isinstance(item, h5py.Dataset) or file == "results.h5" and name.startswith(TIMED):
                return
            values = item[...]
            content = repr(values.tolist()).encode() if values.dtype.kind == "O" else values.tobytes()
            label = f"{item.dtype} {item.shape} ".encode()
            found[f"{file}:{name}"] = hashlib.sha256(label + content).hexdigest()
        return visit

    for name in ("results.h5", "adapters.h5"):
        with h5py.File(Path(directory) / name) as file:
            file.visititems(add(name))
    assert any(name.startswith("adapters.h5:") for name in found)
    assert "results.h5:personal_loss" in found and "results.h5:total_singular_values" in found
    return found


def assert_same(found: dict[str, str], wanted: dict[str, str]) -> None:
    different = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    assert not different, f"other bits in {different}"


def bits(directory: Path, options: dict[str, object], ranks: int = 0) -> dict[str, str]:
    """Digests of a new run."""
    run({**options, "output": directory, "progress": "off"}, ranks)
    return digests(directory)


def contents(path: Path) -> dict[str, bytes]:
    """Every file under a path, or the file itself."""
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    return {str(entry): entry.read_bytes() for entry in files}


@dataclass
class Refusal:
    codes: list[int]  # by rank
    messages: list[str]  # lines of the program on standard error


def refusals(options: dict[str, object], rank_counts: tuple[int, ...], scratch: Path) -> list[Refusal]:
    """Runs what must fail at each number of ranks, with the exit code of each rank: mpirun tells one.

    At once, but one after another where the runs take the lock of the same output directory.
    """
    if len(rank_counts) > 1 and (options.get("resume") or options.get("overwrite")):
        return [found for ranks in rank_counts for found in refusals(options, (ranks,), scratch)]
    scratch = scratch / "codes"
    shutil.rmtree(scratch, ignore_errors=True)
    started = []
    for ranks in rank_counts:
        (scratch / str(ranks)).mkdir(parents=True)
        words = command(options, ranks)
        if ranks:
            at = words.index(str(PROGRAM))
            words[at:at] = ["bash", "-c", f'"$@"; echo $? > {scratch}/{ranks}/$OMPI_COMM_WORLD_RANK', "pf2lora"]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=environment(), cwd=ROOT))
    found = []
    for ranks, process in zip(rank_counts, started):
        _, errors = process.communicate(timeout=120)
        codes = [int((scratch / str(ranks) / str(rank)).read_text()) for rank in range(ranks)]
        messages = [line for line in errors.splitlines() if line.startswith("pf2lora: ")]
        found.append(Refusal(codes or [process.returncode], messages))
    shutil.rmtree(scratch)
    return found


def refusal(options: dict[str, object], ranks: int, scratch: Path) -> Refusal:
    return refusals(options, (ranks,), scratch)[0]


def assert_refused(options: dict[str, object], code: int, words: list[str], scratch: Path,
                   rank_counts: tuple[int, ...] = (2,)) -> None:
    """One message that holds `words`, and `code` on every rank; without mpirun where a number of ranks is 0."""
    for refused, ranks in zip(refusals({"progress": "off", **options}, rank_counts, scratch), rank_counts):
        assert refused.codes == [code] * max(ranks, 1), refused
        assert len(refused.messages) == 1, refused
        for word in words:
            assert word in refused.messages[0], refused.messages[0]


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Reads standard output up to the line that holds `text`."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"'{text}' never came: {process.communicate()}")


def stopped(options: dict[str, object], ranks: int, number: signal.Signals) -> str:
    """Sends a run a signal after its first round; gives back what it says at its end, with exit code 85."""
    process = start({**options, "progress": "lines"}, ranks)
    wait_for(process, "round")  # the plan
    wait_for(process, "loss")  # a round
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 85, errors
    return errors


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def segments(directory: Path) -> dict[str, list]:
    """What results.h5 tells of every start of the program."""
    with h5py.File(Path(directory) / "results.h5") as file:
        names = [name for name in file if name.startswith("segment_")]
        return {name.removeprefix("segment_"): [value.decode() if isinstance(value, bytes) else int(value)
                                                for value in file[name][...]] for name in names}


def personal_matrices(directory: Path, site: str = "matrix") -> np.ndarray:
    """s B A + s' D C of every client of a matrix run, [client, rows, columns]."""
    with h5py.File(Path(directory) / "adapters.h5") as file:
        def pair(owner, down, up):
            group = file.get(f"{owner}/{site}")
            return 0 if group is None else group.attrs["scale"] * (group[up][...] @ group[down][...])
        return np.asarray(pair("common", "A", "B") + pair("client", "C", "D"))
