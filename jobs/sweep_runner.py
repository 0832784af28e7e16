"""Runs the unfinished items of a sweep in parallel slots, and tells how far they are."""

from __future__ import annotations

import datetime
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import sweep_runs as runs_on_disk
from sweep_grid import Run
from sweep_runs import BEGUN, BUSY, CHECKPOINTED, DIVERGED, DONE, NEW, ROOT, STOPPED, TO_EXTEND, Lock, Program

FAILED_RUNS = 1  # exit code beside 0 and 85
POLL = 0.1  # seconds between looks at the runs
BUSY_POLL = 2.0  # seconds between looks at runs of other sweeps


@dataclass
class Item:
    """A run of the sweep with its place on disk and what became of it."""

    index: int
    run: Run
    options: dict[str, str]  # all of them, as --print-config gives them
    directory: Path
    log: Path
    state: str = NEW
    why: str = ""
    seconds: float = 0.0

    def look(self) -> None:
        self.state, self.why = runs_on_disk.state(self.directory, self.options, self.log)

    def finished(self, retry: bool) -> bool:
        return self.state == DONE or (self.state == DIVERGED and not retry)


@dataclass
class Job:
    """A run that goes on here."""

    item: Item
    process: subprocess.Popen
    lock: Lock
    begun: float


@dataclass
class Failure:
    item: Item
    code: int
    lines: list[str]

    def text(self) -> str:
        how = f"signal {signal.Signals(-self.code).name}" if self.code < 0 else f"exit code {self.code}"
        return "\n".join([f"{self.item.run.path}: {how}; its log is {self.item.log}",
                          *(f"    {line}" for line in self.lines)])


@dataclass
class Sweep:
    """Runs of `items` in parallel slots until all are done or have failed, or a signal comes."""

    items: list[Item]
    program: Program
    slots: int
    ranks: int
    retry: bool = False  # runs that diverged before
    once: bool = False  # a run that stops with everything saved is not started again
    patience: float = float("inf")  # seconds to wait for runs that other processes hold
    failures: list[Failure] = field(default_factory=list)
    stops: int = 0  # signals that asked to stop
    told: int = 0  # signals that the runs were sent

    def __post_init__(self):
        self.jobs: list[Job] = []
        self.waiting = deque(item for item in self.items if not item.finished(self.retry))
        self.held: list[Item] = []  # runs of other processes
        self.look_again = 0.0
        self.display = Display(self)

    def execute(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._ask_to_stop)
        if self.waiting:
            self.display.line(self.display.summary())
        waited_from = time.monotonic()
        while self.jobs or (not self.stops and (self.waiting or self.held)):
            self._pass_signals()
            self._reap()
            if not self.stops:
                self._look_at_held()
                while self.waiting and len(self.jobs) < self.slots and not self.stops:
                    self._start(self.waiting.popleft())
            if self.jobs or self.waiting:
                waited_from = time.monotonic()
            elif time.monotonic() - waited_from > self.patience:
                break
            self.display.update()
            time.sleep(POLL)
        self.display.close()
        return self._verdict()

    # ---- signals ------------------------------------------------------------------------------------------
    def _ask_to_stop(self, number, frame) -> None:
        self.stops += 1

    def _pass_signals(self) -> None:
        """The first asks the runs to end after their round with everything saved, a second one ends them at once."""
        if self.told == self.stops:
            return
        self.told = self.stops
        if self.stops == 1:
            self.display.line(f"stopping: {len(self.jobs)} running, each saves its state after its round; "
                              "once more to end them at once")
        for job in self.jobs:
            direct = job.process.args[0] == self.program.path
            # mpirun ends its ranks on SIGTERM; the program itself would take it as the same wish as SIGUSR1.
            job.process.send_signal(signal.SIGUSR1 if self.stops == 1 else
                                    signal.SIGKILL if direct else signal.SIGTERM)

    # ---- runs ---------------------------------------------------------------------------------------------
    def _start(self, item: Item) -> None:
        lock = Lock(item.log)
        if not lock.held or runs_on_disk.program_runs(item.directory):
            lock.close()
            item.state = BUSY
            self.held.append(item)
            return
        item.look()  # another sweep may have been here
        if item.finished(self.retry):
            lock.close()
            return
        extra = {STOPPED: ("--resume",), TO_EXTEND: ("--resume",), DIVERGED: ("--overwrite",),
                 BEGUN: ("--overwrite",)}.get(item.state, ())
        ranks = min(self.ranks, runs_on_disk.groups(item.options))
        command = self.program.command(item.run, item.directory, ranks, (*extra, "--progress=lines"))
        lock.write(f"start {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ} {shlex.join(command)}")
        try:
            process = subprocess.Popen(command, cwd=ROOT, env=runs_on_disk.environment(), stdin=subprocess.DEVNULL,
                                       stdout=lock.fileno(), stderr=lock.fileno(), start_new_session=True)
        except OSError as error:
            lock.close()
            self.failures.append(Failure(item, 127, [f"{command[0]} cannot be started: {error.strerror}"]))
            return
        self.jobs.append(Job(item, process, lock, time.monotonic()))

    def _reap(self) -> None:
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            code, item = job.process.returncode, job.item
            item.seconds += time.monotonic() - job.begun
            job.lock.write(f"exit {code} after {time.monotonic() - job.begun:.1f} s")
            item.look()
            job.lock.close()
            if code == 0 and item.state != DONE:
                self._fail(item, code, ["the run ended well, but its results.h5 is not complete"])
            elif code == 0:
                self.display.ended(item)
            elif code == CHECKPOINTED and not self.stops and not self.once:
                self.waiting.appendleft(item)
            elif code != CHECKPOINTED and not self.stops:
                self._fail(item, code, runs_on_disk.last_lines(item.log))

    def _fail(self, item: Item, code: int, lines: list[str]) -> None:
        self.failures.append(Failure(item, code, lines))
        self.display.line(f"{item.run.path} failed")

    def _look_at_held(self) -> None:
        if not self.held or time.monotonic() < self.look_again:
            return
        self.look_again = time.monotonic() + BUSY_POLL
        self.waiting.extend(self.held)
        self.held.clear()

    def _verdict(self) -> int:
        left = [item for item in self.items if not item.finished(False)]
        diverged = [item for item in self.items if item.state == DIVERGED]
        failed = {id(failure.item) for failure in self.failures}
        self.failures += [Failure(item, runs_on_disk.NUMERICAL_FAILURE, runs_on_disk.last_lines(item.log))
                          for item in diverged if id(item) not in failed]
        for failure in self.failures:
            print(f"sweep: failed: {failure.text()}", file=sys.stderr)
        if diverged:
            print("sweep: runs that failed numerically are not started again unless --retry is given", file=sys.stderr)
        print(f"sweep: {sum(item.state == DONE for item in self.items)} of {len(self.items)} runs are done"
              + (f", {len(self.failures)} failed" if self.failures else ""))
        if left and (self.stops or any(item.state in (STOPPED, TO_EXTEND) and id(item) not in failed for item in left)):
            print(f"sweep: {len(left)} left; the same command goes on with them")
            return CHECKPOINTED
        return FAILED_RUNS if self.failures or left else 0


class Display:
    """One line that changes in a terminal, a line for each run that ended in a log."""

    def __init__(self, sweep: Sweep):
        self.sweep, self.terminal, self.last, self.shown = sweep, sys.stdout.isatty(), 0.0, False
        self.begun = time.monotonic()

    def summary(self) -> str:
        sweep = self.sweep
        done = sum(item.state == DONE for item in sweep.items)
        parts = [f"{done}/{len(sweep.items)} done", f"{len(sweep.jobs)} running"]
        if sweep.held:
            parts.append(f"{len(sweep.held)} run by another sweep")
        if sweep.failures:
            parts.append(f"{len(sweep.failures)} failed")
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """From the times of the runs of the same method that ended here, or of all."""
        took: dict[str, list[float]] = {}
        for item in self.sweep.items:
            if item.state == DONE and item.seconds:
                took.setdefault(item.run.method, []).append(item.seconds)
        everything = [seconds for some in took.values() for seconds in some]
        if not everything:
            return None

        def expected(item: Item) -> float:
            known = took.get(item.run.method, everything)
            return sum(known) / len(known)

        now = time.monotonic()
        left = sum(expected(item) for item in self.sweep.waiting)
        left += sum(max(0.0, expected(job.item) - (now - job.begun)) for job in self.sweep.jobs)
        return left / self.sweep.slots

    def ended(self, item: Item) -> None:
        if not self.terminal:
            self.line(f"{item.run.path} done in {_duration(item.seconds)}; {self.summary()}")

    def line(self, text: str) -> None:
        print(("\r\x1b[K" if self.shown else "") + f"sweep: {text}", flush=True)
        self.shown = False

    def update(self) -> None:
        if not self.terminal or time.monotonic() - self.last < 1:
            return
        self.last = time.monotonic()
        names = ", ".join(job.item.run.path for job in self.sweep.jobs)
        width = shutil.get_terminal_size().columns - 1
        print("\r\x1b[K" + f"sweep: {self.summary()}: {names}"[:width], end="", flush=True)
        self.shown = True

    def close(self) -> None:
        if self.shown:
            print("\r\x1b[K", end="", flush=True)
            self.shown = False


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
