"""Whole rounds of federated LoRA: the program pf2lora beside Flower's simulation engine, on the same batches."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import draws

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / "build" / "flower-venv"
SEED, CLIENTS, COHORT, STEPS, BATCH, LEARNING_RATE = 1, 100, 20, 10, 16, 2e-3
WORK = (
    f"--algorithm homlora --seed {SEED} --partition dirichlet --dirichlet-alpha 0.5 --clients {CLIENTS}"
    f" --clients-per-round {COHORT} --local-steps {STEPS} --batch-size {BATCH} --rank 8 --lora-alpha 16"
    f" --targets query,value --learning-rate {LEARNING_RATE} --optimizer-state reset --precision fp32 --threads 1"
    " --evaluate-every 0 --adaptation-steps none --spectra-every 0 --checkpoint-every 0 --progress lines"
).split()
LOSS_ROUNDS = 2  # whose losses must agree
LONGEST = 1800  # seconds of one process


# ---- Flower's environment ----------------------------------------------------------------------------------


def why_not(message):
    """The last line of what pip or a program wrote that says something."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith("[notice]")]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no reason given"])[-1][:160].replace("|", "/")


def set_up(torch):
    """Makes Flower's environment where it is missing or out of date; the reason where it cannot be made, else None."""
    requirements = HERE / "flower-requirements.txt"
    constraints = [HERE.parent / "requirements.txt", ROOT / "jobs" / "requirements.txt"]
    wanted = "\n".join([torch, sys.version, *(path.read_text() for path in [requirements, *constraints])])
    stamp = ENVIRONMENT / ".pf2lora"
    if stamp.exists() and stamp.read_text() == wanted:
        return None
    print("run.py: making Flower's environment in build/flower-venv (minutes, 1.6 GB)", file=sys.stderr)
    python = str(ENVIRONMENT / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    index = os.environ.get("PF2LORA_TORCH_INDEX")
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)],
        [*pip, torch, *(["--index-url", index] if index else [])],
        [*pip, torch, "--requirement", str(requirements)],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return why_not(done.stderr or done.stdout)
    stamp.write_text(wanted)
    return None


def flower_missing():
    return set_up("torch==" + importlib.metadata.version("torch").split("+")[0])


# ---- processes ---------------------------------------------------------------------------------------------


def family(parents, root):
    """`root` and all its descendants, by a table of the parent of each process."""
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def parents_of_processes():
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                pass  # it ended
    return parents


class Memory(threading.Thread):
    """Largest sums over a process and its descendants, MiB: of proportional set sizes, and of their anonymous part."""

    def __init__(self, pid, cores):
        super().__init__(daemon=True)
        self.pid, self.cores, self.ended = pid, cores, threading.Event()
        self.peak = {"Pss": 0.0, "Pss_Anon": 0.0}
        self.processes = 0

    def run(self):
        os.sched_setaffinity(0, self.cores)  # of this thread: away from the core that is measured, where there is one
        while not self.ended.wait(0.25):
            members = family(parents_of_processes(), self.pid)
            self.processes = max(self.processes, len(members))
            sums = dict.fromkeys(self.peak, 0.0)
            for pid in members:
                try:
                    with open(f"/proc/{pid}/smaps_rollup") as file:
                        for line in file:
                            name, _, value = line.partition(":")
                            if name in sums:
                                sums[name] += int(value.split()[0]) / 1024
                except OSError:
                    pass  # it ended
            self.peak = {name: max(value, sums[name]) for name, value in self.peak.items()}

    def stop(self):
        self.ended.set()
        self.join()
        return {**self.peak, "processes": self.processes}


def end_family(root):
    for pid in family(parents_of_processes(), root):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run_watched(command, environment, cores, on_line):
    """Runs a command and hands its lines to on_line; seconds since the epoch of its start, memory, exit code, text."""
    begin, text = time.time(), []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )
    memory = Memory(process.pid, cores)
    memory.start()
    limit = threading.Timer(LONGEST, end_family, [process.pid])
    limit.start()
    try:
        for line in process.stdout:
            on_line(line)
            text.append(line)
        process.wait()
    finally:
        limit.cancel()
        if process.poll() is None:
            end_family(process.pid)
            process.wait()
        used = memory.stop()
    return begin, used, process.returncode, "".join(text)


# ---- the two programs --------------------------------------------------------------------------------------


class Rounds:
    """One model's rounds. `start`: the adapters' start values by the names of step_benchmark."""

    def __init__(self, program, model, data, start, rounds, directory, cores):
        self.program, self.model, self.data, self.start = Path(program), Path(model), Path(data), start
        self.rounds, self.directory, self.cores = rounds, Path(directory), cores

    def run(self, times, missing):
        """`missing`: why there is no Flower, or None."""
        ours, flower, difference = [], [], None
        for _ in range(times):
            record = self.run_ours()
            ours.append(record)
            if missing is None:
                try:
                    flower.append(self.run_flower(record))
                except RuntimeError as error:
                    missing = str(error)
                    break
        if flower:
            pairs = zip(flower, ours)
            difference = max(loss_difference(a["loss"], b["loss"]) for a, b in pairs)
        for record in ours:
            del record["batches"]
        return {"ours": ours, "flower": flower, "missing": missing, "loss_difference": difference}

    def run_ours(self):
        output = self.directory / "rounds"
        command = [str(self.program), "--overwrite", "--output", str(output), *WORK, "--rounds", str(self.rounds)]
        command += ["--model", str(self.model), "--data", str(self.data)]
        first = []

        def on_line(line):
            if re.match(r"round +1/", line):
                first.append(time.time())

        begin, used, code, text = run_watched(command, {}, self.cores, on_line)
        if code != 0 or not first:
            raise SystemExit(f"run.py: {self.program} ended with exit code {code}: {why_not(text)}")
        return {"start_up": first[0] - begin, **used, **read_results(output / "results.h5")}

    def run_flower(self, ours):
        """Throws RuntimeError where Flower fails."""
        plan, output = self.directory / "plan.json", self.directory / "flower.json"
        common = {"model": str(self.model.resolve()), "data": str(self.data.resolve()), "start": self.start}
        federation = {"clients": CLIENTS, "learning_rate": LEARNING_RATE, "rounds": ours["batches"]}
        plan.write_text(json.dumps({**common, **federation}))
        output.unlink(missing_ok=True)
        home = self.directory / "flower-home"
        environment = {
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_HOME": str(home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": "",
        }
        command = [str(ENVIRONMENT / "bin/python"), str(HERE / "flower_rounds.py"), str(plan), str(output)]
        begin, used, code, text = run_watched(command, environment, self.cores, lambda _: None)
        (self.directory / "flower.log").write_text(text)
        shutil.rmtree(home, ignore_errors=True)
        if code != 0 or not output.exists():
            raise RuntimeError(f"failed with exit code {code}: {why_not(text)}")
        record = json.loads(output.read_text())
        ended = [row["ended"] for row in record]
        seconds = [b - a for a, b in zip(ended, ended[1:])]
        losses = [{int(client): loss for client, loss in row["loss"].items()} for row in record]
        in_steps = [row["in_steps"] for row in record[1:]]
        return {"start_up": ended[0] - begin, "seconds": seconds, "in_steps": in_steps, "loss": losses, **used}


def read_results(path):
    """Of results.h5: seconds of the rounds after the first without evaluation and spectra, losses, and batches."""
    import h5py

    with h5py.File(path) as file:
        phases = [name.decode() for name in file["phase"][:]]
        counted = [i for i, name in enumerate(phases) if name not in ("evaluate", "spectra")]
        seconds = file["phase_seconds"][:, :, 0][:, counted].sum(axis=1)[1:].tolist()
        took_part, losses = file["took_part"][:], file["train_loss"][:]
        offsets, rows = file["train_offsets"][:], file["train_index"][:].tolist()
    loss, batches = [], []
    for number, (part, round_losses) in enumerate(zip(took_part, losses), 1):
        clients = part.nonzero()[0].tolist()
        if clients != draws.cohort(SEED, number, CLIENTS, COHORT):
            raise SystemExit("run.py: draws.py draws other cohorts than pf2lora")
        loss.append({client: float(round_losses[client]) for client in clients})
        held = {client: rows[offsets[client] : offsets[client + 1]] for client in clients}
        batches.append(
            {c: [draws.batch(SEED, c, number, step, held[c], BATCH) for step in range(STEPS)] for c in clients}
        )
    return {"seconds": seconds, "loss": loss, "batches": batches}


def loss_difference(theirs, ours):
    """The largest between a client's mean losses in the first rounds."""
    return max(abs(a[client] - b[client]) for a, b in list(zip(theirs, ours))[:LOSS_ROUNDS] for client in b)


# ---- what the tables show ----------------------------------------------------------------------------------


def milliseconds_a_step(records):
    """Of one client's local step: the rounds' median over the steps that all their clients take."""
    return 1e3 * statistics.median(s for record in records for s in record["seconds"]) / (COHORT * STEPS)


def round_ratios(result):
    """Flower's median round over ours: one a repetition."""
    pairs = zip(result["flower"], result["ours"])
    return [statistics.median(a["seconds"]) / statistics.median(b["seconds"]) for a, b in pairs]


def share_in_steps(records):
    """Of Flower's rounds: what its clients spend in the loop of peft_step."""
    return sum(sum(record["in_steps"]) for record in records) / sum(sum(record["seconds"]) for record in records)
