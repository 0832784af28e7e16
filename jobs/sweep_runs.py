"""One run of a sweep on disk: its command, the options it would have, how far it is, and the lock on it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from sweep_grid import Run, SweepError

ROOT = Path(__file__).resolve().parents[1]  # paths in options are taken from here
CHECKPOINTED, NUMERICAL_FAILURE = 85, 4  # exit codes of pf2lora

# States of a run.
DONE, STOPPED, TO_EXTEND, BEGUN, NEW, DIVERGED, OTHER, BUSY = (
    "done", "stopped", "to extend", "begun", "new", "diverged", "other options", "busy")
# Options that may differ between a run that stands there and the one that is wanted.
_FREE = frozenset("output max-hours checkpoint-every checkpoint-minutes threads progress prefix-cache".split())
_END = re.compile(r"sweep: exit (-?\d+)")


@dataclass
class Program:
    """How runs are started: the binary, and the words before it for a number of ranks."""

    path: str
    launcher: list[str] | None = None  # words, {ranks} stands for the number; None: mpirun, and nothing for one rank
    bind: bool = True  # whether mpirun may bind ranks to cores, which several runs at a time must not

    def command(self, run: Run, output: Path, ranks: int, extra: tuple[str, ...] = ()) -> list[str]:
        return [*self._launch(ranks), self.path, *(f"--config={config}" for config in run.configs),
                *(f"--{name}={value}" for name, value in run.options.items()), f"--output={output}", *extra]

    def _launch(self, ranks: int) -> list[str]:
        if self.launcher is not None:
            return [word.replace("{ranks}", str(ranks)) for word in self.launcher]
        if ranks == 1:
            return []
        return ["mpirun", "-n", str(ranks), *([] if self.bind else ["--bind-to", "none"])]


def environment() -> dict[str, str]:
    """That of the runs: Open MPI refuses to run as root unless it is told twice."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    return {**os.environ, **root}


def resolve(runs: list[Run], program: Program, output: Path, at_once: int, inputs: bool = True) -> list[dict[str, str]]:
    """All options of every run, as --print-config gives them. Throws SweepError with the program's own message.

    The program is asked about one run of each method in each setting, and about every value of an option once; with
    `inputs` one run of each setting is planned too (--dry-run), which reads its model and data.
    """
    asked: dict[tuple, int] = {}
    seen: set = set()
    for i, run in enumerate(runs):
        facts = {(run.method, run.setting), *run.options.items()}
        facts |= {(run.method, *item) for item in run.tuned.items()}
        if not facts <= seen:
            seen |= facts
            asked[(run.method, run.setting, i)] = i
    planned = {run.setting: i for i, run in reversed(list(enumerate(runs)))} if inputs else {}

    def ask(job: tuple[int, str]) -> str:
        i, flag = job
        words = program.command(runs[i], output / ".check", 1, (flag, "--progress=off"))[len(program._launch(1)):]
        done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
        if done.returncode:
            why = _last_lines(done.stderr, 3) or f"{program.path} ended with exit code {done.returncode}"
            raise SweepError(f"{describe(runs[i])} cannot be run: {why}")
        return done.stdout

    jobs = [*((i, "--print-config") for i in asked.values()), *((i, "--dry-run") for i in planned.values())]
    try:
        with ThreadPoolExecutor(max(1, at_once)) as pool:
            pages = list(pool.map(ask, jobs))
    except OSError as error:
        raise SweepError(f"{program.path} cannot be started ({error.strerror}); build it, or name it with --program"
                         ) from error
    configs = {i: parse_ini(page) for (i, _), page in zip(jobs, pages[:len(asked)])}
    first: dict[tuple, dict[str, str]] = {}
    written: dict[tuple[str, str], str] = {}  # as the program writes a value
    for i in asked.values():
        first.setdefault((runs[i].method, runs[i].setting), configs[i])
        written |= {item: configs[i].get(item[0], item[1]) for item in runs[i].options.items()}
    return [configs.get(i) or first[(run.method, run.setting)] | {item[0]: written[item] for item in run.options.items()}
            for i, run in enumerate(runs)]


def describe(run: Run) -> str:
    """The run by its place in the grid."""
    parts = [("setting", run.setting), ("method", run.method), ("seed", run.seed)]
    parts += list(run.tuned.items())
    return "the run with " + (", ".join(f"{name} '{value}'" for name, value in parts if value) or "these options")


def check_tuning(runs: list[Run], resolved: list[dict[str, str]]) -> None:
    """Throws SweepError where options are tuned on runs that have no validation examples."""
    for run, options in zip(runs, resolved):
        if not run.tuned or float(options.get("validation-share", 0)) > 0:
            continue
        if options.get("problem") == "matrix":
            raise SweepError(f"{describe(run)}: the matrix problem has no validation examples to tune on; list the "
                             "values in `vary` instead")
        try:
            with h5py.File(ROOT / options["data"]) as file:
                if np.any(file["split"][...] == 1):
                    continue
        except (OSError, KeyError):
            pass
        raise SweepError(f"{describe(run)}: tuning needs validation examples, and the test set is never used for it; "
                         "set validation-share = 0.2, say, in [options]")


def groups(options: dict[str, str]) -> int:
    """Groups of clients of a round: more ranks than that have nothing to do."""
    if options.get("algorithm") == "centralized":
        return 1
    cohort = int(options["clients"]) - int(options["held-out-clients"])
    if int(options["clients-per-round"]):
        cohort = min(cohort, int(options["clients-per-round"]))
    return max(1, -(-cohort // int(options["lockstep"])))


def parse_ini(text: str) -> dict[str, str]:
    """`name = value` lines."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def state(directory: Path, wanted: dict[str, str], log: Path) -> tuple[str, str]:
    """(state, why) of the run in a directory that should have the options `wanted`."""
    if not directory.exists():
        return NEW, ""
    found = {}
    if (directory / "options.ini").is_file():
        found = parse_ini((directory / "options.ini").read_text(encoding="utf-8"))
    different = [name for name, value in wanted.items()
                 if name in found and name not in _FREE and not _same(found[name], value)]
    longer = different == ["rounds"] and int(found["rounds"]) < int(wanted["rounds"])
    if longer:
        different = []  # the run goes on for further rounds
    if different:
        name = different[0]
        return OTHER, f"{name} is {found[name]} there, not {wanted[name]}"
    if _complete(directory, int(wanted["rounds"])):
        return DONE, ""
    if _last_exit(log) == NUMERICAL_FAILURE:
        return DIVERGED, ""
    if not (directory / "checkpoint.h5").is_file():
        return BEGUN, ""
    if longer and _complete(directory, int(found["rounds"])):
        return TO_EXTEND, f"from {found['rounds']} to {wanted['rounds']} rounds"
    return STOPPED, ""


def _same(a: str, b: str) -> bool:
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


def _complete(directory: Path, rounds: int) -> bool:
    """Whether a run has ended after `rounds` rounds: its results.h5 holds them and is put together."""
    if any((directory / "segments").glob("*.h5")) or not (directory / "adapters.h5").is_file():
        return False
    try:
        with h5py.File(directory / "results.h5", "r") as file:
            return int(np.max(file["round"][...], initial=0)) >= rounds
    except (OSError, KeyError):
        return False


def _last_exit(log: Path) -> int | None:
    """The exit code that a log ends with; None while the run goes on or where its sweep was killed."""
    try:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if
                 line.startswith("sweep: ")]
    except OSError:
        return None
    found = _END.match(lines[-1]) if lines else None
    return int(found[1]) if found else None


def last_lines(log: Path, count: int = 5) -> list[str]:
    """What the program last wrote into a log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return _last_lines(text.rpartition("\nsweep: start")[2], count).splitlines()


def _last_lines(text: str, count: int) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("sweep: ")]
    return "\n".join(lines[-count:])


class Lock:
    """The log of a run, open for appending and locked: a run inherits both, so the lock lasts as long as the run.

    That holds even where the sweep that started it was killed. `held` is False where another process has the lock.
    """

    warned = False

    def __init__(self, log: Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        self._file = log.open("ab", buffering=0)
        self.held = _try_lock(self._file.fileno())
        if not self.held:
            self._file.close()

    def write(self, line: str) -> None:
        self._file.write(f"sweep: {line}\n".encode())

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if not Lock.warned:
            print("sweep: the file system has no locks: see that no other sweep runs in this folder", flush=True)
            Lock.warned = True
    return True


def program_runs(directory: Path) -> bool:
    """Whether a pf2lora process holds its own lock in a run's directory."""
    try:
        with open(directory / "lock", "rb+") as file:
            return not _try_lock(file.fileno())
    except OSError:
        return False
