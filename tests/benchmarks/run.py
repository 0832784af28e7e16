"""Times local steps of pf2lora and of a PyTorch + transformers + PEFT loop on the same batches.

Both programs stay alive and take turns of a few steps each, so a machine whose speed drifts hits both alike. A
ratio is taken within each repetition; its median and range over the repetitions are what counts.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "benchmarks"
METHODS = ["homlora -"] + [f"pf2lora {mode}" for mode in ("joint", "first-order", "finite-difference", "exact")]
HOMLORA, EXACT = METHODS[0], METHODS[-1]
PEFT = "peft"
LEAST_SPEED_UP, LARGEST_EXACT = 2.0, 4.5
LOSS_TOLERANCE, LOSS_STEPS = 1e-3, 20


class Program:
    """A program that answers each line of a request with a line of JSON."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"run.py: {self.process.args[0]} ended on the request {request[:80]!r}")
        return json.loads(answer)

    def memory(self):
        """MiB: the most that was resident, and what of it now belongs to this process alone."""
        with open(f"/proc/{self.process.pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return {name: int(fields[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """One model's measurements."""

    def __init__(self, arguments, model, steps):
        self.repetitions, self.steps = arguments.repetitions, steps
        self.ours_command = [str(arguments.program), str(model), str(arguments.data)]
        self.peer_command = [sys.executable, str(ROOT / "tests/benchmarks/peft_step.py"), *self.ours_command[1:]]

    def run(self):
        with Program(*self.ours_command) as ours, Program(*self.peer_command) as peer:
            start = OUTPUT / "start.json"
            start.write_text(json.dumps(ours.ask("start homlora")))
            peer.ask(f"start {start}")
            names = [PEFT] + [f"{method} {lockstep}" for lockstep in (1, 2) for method in METHODS]
            seconds, losses = {name: [] for name in names}, {name: [] for name in names}
            for repetition in range(self.repetitions + 1):  # the first one warms up
                first = repetition * self.steps
                rows = json.dumps(ours.ask(f"rows {first} {self.steps}"))
                turn = repetition % len(names)
                for name in names[turn:] + names[:turn]:
                    if name == PEFT:
                        answer = peer.ask(f"steps {rows}")
                    else:
                        answer = ours.ask(f"{name} {first} {self.steps}")
                    seconds[name].append(answer["seconds"])
                    losses[name] += answer["loss"]
        return {
            "steps": self.steps,
            "seconds": {name: blocks[1:] for name, blocks in seconds.items()},
            "loss_difference": self.check_losses(losses[PEFT], losses[f"{HOMLORA} 1"]),
            "fresh": self.start_afresh(json.loads(rows)),
        }

    @staticmethod
    def check_losses(theirs, ours):
        largest = max(abs(a - b) for a, b in list(zip(theirs, ours))[:LOSS_STEPS])
        if largest > LOSS_TOLERANCE:
            raise SystemExit(f"run.py: losses differ by {largest:.1e}: the two programs do not do the same work")
        return largest

    def start_afresh(self, rows, times=3):
        """Seconds from the start of the process to the end of its first step, and memory after a block."""
        requests = {
            PEFT: (self.peer_command, f"steps {rows[:1]}", f"steps {rows}"),
            HOMLORA: (self.ours_command, f"{HOMLORA} 1 0 1", f"{HOMLORA} 1 1 {self.steps}"),
            EXACT: (self.ours_command, f"{EXACT} 1 0 1", f"{EXACT} 1 1 {self.steps}"),
        }
        measured = {name: [] for name in requests}
        for _ in range(times):
            for name, (command, one, block) in requests.items():
                begin = time.perf_counter()
                with Program(*command) as program:
                    program.ask(one)
                    start_up = time.perf_counter() - begin
                    program.ask(block)
                    measured[name].append({"start_up": start_up, **program.memory()})
        return measured


def ratios(result, over, under, clients=1):
    """Of the block sums, `under` counted for that many clients: one a repetition."""
    blocks = zip(result["seconds"][over], result["seconds"][under])
    return [clients * sum(a) / sum(b) for a, b in blocks]


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def step_table(results):
    lines = [
        "| model | step | clients | ms a client | PEFT loop over it | over HOMLoRA | target |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    met = True
    for model, result in results.items():
        for name, blocks in result["seconds"].items():
            clients = 1 if name == PEFT else int(name.split()[-1])
            cells = [model, name if name == PEFT else " ".join(name.split()[:-1]).replace(" -", ""), str(clients)]
            cells.append(f"{1e3 * statistics.median(s for block in blocks for s in block) / clients:.1f}")
            target = ""
            if name == PEFT:
                cells += ["", ""]
            else:
                speed_up = ratios(result, PEFT, name, clients)
                cells.append(spread(speed_up) if name.startswith(HOMLORA) else "")
                over = ratios(result, name, f"{HOMLORA} {clients}")
                cells.append("" if name.startswith(HOMLORA) else spread(over))
                if name == f"{HOMLORA} 1":
                    good = statistics.median(speed_up) >= LEAST_SPEED_UP
                    target = f"at least {LEAST_SPEED_UP}"
                elif name == f"{EXACT} 1":
                    good = statistics.median(over) <= LARGEST_EXACT
                    target = f"at most {LARGEST_EXACT}"
                if target:
                    met = met and good
                    target += ": met" if good else ": MISSED"
            lines.append("| " + " | ".join(cells + [target]) + " |")
    return lines, met


def fresh_table(results):
    lines = [
        "| model | program | seconds to the end of the first step | peak memory, MiB | of its own, MiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for model, result in results.items():
        for name, runs in result["fresh"].items():
            cells = [model, name.replace(" -", "")]
            cells.append(spread([run["start_up"] for run in runs]))
            cells += [f"{statistics.median(run[field] for run in runs):.0f}" for field in ("VmHWM", "RssAnon")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def cpu_model():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def small_bert():
    """A random BERT of 2 layers and width 128, the shape of BERT-tiny."""
    directory = OUTPUT / "bert-2x128"
    if not (directory / "model.safetensors").exists():
        import torch
        from transformers import BertConfig, BertModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=30522, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    return directory


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="dataset.h5 of SST-2 (default: data/sst2.h5, else data/wordnet.h5)")
    parser.add_argument("--repetitions", type=int, default=8, help="turns of each program (default 8)")
    parser.add_argument(
        "--program", type=Path, default=ROOT / "build/release/tests/step_benchmark", help="a built step_benchmark"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args()
    if arguments.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    if arguments.data is None:
        arguments.data = ROOT / "data/sst2.h5"
        if not arguments.data.exists():
            arguments.data = ROOT / "data/wordnet.h5"
            print("run.py: no data/sst2.h5 and no --data: taking wordnet, whose sentences are shorter", file=sys.stderr)
    for path in (arguments.data, arguments.program):
        if not path.exists():
            parser.error(f"{path} does not exist")
    return arguments


def main():
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})  # both programs inherit it
    OUTPUT.mkdir(parents=True, exist_ok=True)

    load = os.getloadavg()[0]
    work = {"MiniLM": (ROOT / "models/minilm", 3), "2 layers x 128": (small_bert(), 20)}
    results = {name: Bench(arguments, model, steps).run() for name, (model, steps) in work.items()}

    steps, met = step_table(results)
    report = [f"{cpu_model()}, core {core} alone, load {load:.1f} at the start; {arguments.data.name}, batch 16", ""]
    report += steps + [""] + fresh_table(results) + [""]
    for name, result in results.items():
        compared = min(LOSS_STEPS, (arguments.repetitions + 1) * result["steps"])
        report.append(f"{name}: losses of the first {compared} steps differ by {result['loss_difference']:.1e}")
    text = "\n".join(report)
    print(text)
    (OUTPUT / "steps.md").write_text(text + "\n")
    (OUTPUT / "steps.json").write_text(json.dumps({"cpu": cpu_model(), "load": load, "results": results}, indent=1))
    return 1 if arguments.check and not met else 0


if __name__ == "__main__":
    sys.exit(main())
