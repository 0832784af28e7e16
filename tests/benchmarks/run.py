"""Times local steps of pf2lora and of a PyTorch + transformers + PEFT loop on the same batches.

Both programs stay alive and take turns of a few steps each, so a machine whose speed drifts hits both alike. A
ratio is taken within each repetition; its median and range over the repetitions are what counts. With --flower, whole
rounds of pf2lora and of Flower's simulation engine take turns too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import core_rate
import h5py
import numpy as np
import rounds

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "benchmarks"
METHODS = ["homlora -"] + [f"pf2lora {mode}" for mode in ("joint", "first-order", "finite-difference", "exact")]
HOMLORA, EXACT = METHODS[0], METHODS[-1]
PEFT = "peft -"
FIRST_ORDER = METHODS[2]
AG_NEWS = "MiniLM, AG News"
# By model and step: the least ratio of the PEFT loop's time to ours, and the largest of ours to HOMLoRA's.
TARGETS = {
    "MiniLM": {f"{HOMLORA} 1": (4.0, None), f"{HOMLORA} 1 bf16": (7.5, None), f"{FIRST_ORDER} 1": (None, 2.1),
               f"{EXACT} 1": (1.33, 3.1)},
    AG_NEWS: {f"{HOMLORA} 1": (3.7, None)},
    "2 layers x 128": {f"{HOMLORA} 1": (8.0, None), f"{FIRST_ORDER} 1": (None, 2.1), f"{EXACT} 1": (2.22, 3.4)},
}
CORE_TARGETS = {"MiniLM": 0.75}  # the least share of the core's best rate of products, by model
LOSS_TOLERANCE, LOSS_STEPS = 1e-3, 20
FRESH = 3  # times that a program starts afresh


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
    """One model's measurements on one dataset."""

    def __init__(self, arguments, model, data, steps):
        self.repetitions, self.steps, self.model = arguments.repetitions, steps, model
        with h5py.File(data) as file:
            self.lengths = np.diff(file["offsets"][:])
        self.ours_command = [str(arguments.program), str(model), str(data)]
        self.peer_command = [sys.executable, str(ROOT / "tests/benchmarks/peft_step.py"), *self.ours_command[1:]]

    def run(self):
        with ExitStack() as stack:
            ours = stack.enter_context(Program(*self.ours_command))
            start = OUTPUT / "start.json"
            start.write_text(json.dumps(ours.ask("start homlora")))
            precisions = ours.ask("precisions")
            peers = {f"{PEFT} 1": Program(*self.peer_command)}
            if "bf16" in precisions:
                peers[f"{PEFT} 1 bf16"] = Program(*self.peer_command, "--precision", "bf16")
            for peer in peers.values():
                stack.enter_context(peer).ask(f"start {start}")
            names = [*peers] + [f"{method} {lockstep}" for lockstep in (1, 2) for method in METHODS]
            names += [f"{method} 1 {precision}" for precision in precisions for method in (HOMLORA, EXACT)]
            seconds, losses = {name: [] for name in names}, {name: [] for name in names}
            products = []
            for repetition in range(self.repetitions + 1):  # the first one warms up
                first = repetition * self.steps
                batches = ours.ask(f"rows {first} {self.steps}")
                rows = json.dumps(batches)
                products.append(self.products(ours, batches))
                turn = repetition % len(names)
                for name in names[turn:] + names[:turn]:
                    if name in peers:
                        answer = peers[name].ask(f"steps {rows}")
                    else:
                        method, hypergradient, lockstep, *precision = name.split()
                        words = [method, hypergradient, lockstep, str(first), str(self.steps), *precision]
                        answer = ours.ask(" ".join(words))
                    seconds[name].append(answer["seconds"])
                    losses[name] += answer["loss"]
        return {
            "steps": self.steps,
            "seconds": {name: blocks[1:] for name, blocks in seconds.items()},
            "products": products[1:],
            "core_share": core_rate.shares(products[1:], seconds[f"{HOMLORA} 1"][1:]),
            "loss_difference": self.check_losses(losses[f"{PEFT} 1"], losses[f"{HOMLORA} 1"]),
            "fresh": self.start_afresh(json.loads(rows)),
        }

    def products(self, ours, batches):
        """FLOP of the batches' products, and how fast such products alone are now."""
        tokens = [int(self.lengths[batch].sum()) for batch in batches]
        return {
            "flop": sum(core_rate.flop(self.model, count, len(batch)) for count, batch in zip(tokens, batches)),
            "products": ours.ask(f"products {sum(tokens) // len(tokens)}"),
        }

    @staticmethod
    def check_losses(theirs, ours):
        largest = max(abs(a - b) for a, b in list(zip(theirs, ours))[:LOSS_STEPS])
        if largest > LOSS_TOLERANCE:
            raise SystemExit(f"run.py: losses differ by {largest:.1e}: the two programs do not do the same work")
        return largest

    def start_afresh(self, rows, times=FRESH):
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


def measure_rounds(arguments, model, cores, missing):
    """Whole rounds of pf2lora and Flower in turns."""
    with Program(str(arguments.program), str(model), str(arguments.data)) as program:
        start = program.ask("start homlora")
    run = rounds.Rounds(arguments.pf2lora, model, arguments.data, start, arguments.rounds, OUTPUT, cores)
    result = run.run(FRESH, missing)
    if result["flower"] and result["loss_difference"] > LOSS_TOLERANCE:
        raise SystemExit(f"run.py: losses of rounds differ by {result['loss_difference']:.1e}")
    return result


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def against_targets(model, name, speed_up, over):
    """What a row says of its step's targets, and whether they are met."""
    least, most = TARGETS.get(model, {}).get(name, (None, None))
    judged = []
    if least is not None:
        judged.append((f"PEFT over it at least {least}", statistics.median(speed_up) >= least))
    if most is not None:
        judged.append((f"over HOMLoRA at most {most}", statistics.median(over) <= most))
    told = [f"{words}: {'met' if good else 'MISSED'}" for words, good in judged]
    return ", ".join(told), all(good for _, good in judged)


def step_table(results):
    lines = [
        "| model | step | clients | ms a client | PEFT loop over it | over HOMLoRA | target |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    met = True
    for model, result in results.items():
        for name, blocks in result.get("seconds", {}).items():
            method, hypergradient, clients, *precision = name.split()
            clients = int(clients)
            shown = " ".join(word for word in (method, hypergradient, *precision) if word != "-")
            milliseconds = 1e3 * statistics.median(s for block in blocks for s in block) / clients
            cells, target = [model, shown, str(clients), f"{milliseconds:.1f}", "", ""], ""
            if name != f"{PEFT} 1":
                speed_up = ratios(result, f"{PEFT} 1", name, clients)
                cells[4] = spread(speed_up)
                over = ratios(result, name, " ".join([HOMLORA, str(clients), *precision]))
                if method == "pf2lora":
                    cells[5] = spread(over)
                target, good = against_targets(model, name, speed_up, over)
                met = met and good
            lines.append("| " + " | ".join(cells + [target]) + " |")
        if "rounds" in result:
            lines += round_step_rows(model, result["rounds"])
    return lines, met


def round_step_rows(model, result):
    """Rows of step_table: whole rounds, by local step of a client."""
    ours = [model, "homlora, whole rounds", rounds.COHORT, f"{rounds.milliseconds_a_step(result['ours']):.1f}", "", ""]
    flower = [model, "Flower, whole rounds", rounds.COHORT]
    if result["flower"]:
        flower += [f"{rounds.milliseconds_a_step(result['flower']):.1f}", "", spread(rounds.round_ratios(result))]
    else:
        flower += ["not available", "", ""]
    return ["| " + " | ".join(map(str, cells + [""])) + " |" for cells in (ours, flower)]


def fresh_table(results):
    lines = [
        "| model | program | seconds to the end of the first step or round | peak memory, MiB | of its own, MiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for model, result in results.items():
        fresh = result.get("fresh", {})
        programs = [(name.replace(" -", ""), runs, ("VmHWM", "RssAnon")) for name, runs in fresh.items()]
        if "rounds" in result:
            fields = ("Pss", "Pss_Anon")
            programs.append(("homlora, first round", result["rounds"]["ours"], fields))
            programs.append(("Flower, first round", result["rounds"]["flower"], fields))
        for name, runs, fields in programs:
            cells = [model, name, "not available", "", ""]
            if runs:
                cells[2] = spread([run["start_up"] for run in runs])
                cells[3:] = [f"{statistics.median(run[field] for run in runs):.0f}" for field in fields]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def core_lines(results):
    """How near plain steps come to the core's rate of products, and whether that meets the targets."""
    told = [
        core_rate.line(name, result["products"], result["seconds"][f"{HOMLORA} 1"], CORE_TARGETS.get(name))
        for name, result in results.items()
        if "products" in result
    ]
    return [text for text, _ in told], all(good for _, good in told)


def half_lines(results):
    """How the loop in bf16 stands to our step in bf16."""
    half = [f"{program} 1 bf16" for program in (PEFT, HOMLORA)]
    return [
        f"{name}: a step of the PEFT loop in bf16 takes {spread(ratios(result, *half))} times as long as ours in bf16"
        for name, result in results.items()
        if half[0] in result.get("seconds", {})
    ]


def loss_lines(results, steps_taken):
    """What says that the programs did the same work, or why one did none."""
    lines = []
    for name, result in results.items():
        if "loss_difference" in result:
            compared = min(LOSS_STEPS, steps_taken * result["steps"])
            lines.append(f"{name}: losses of the first {compared} steps differ by {result['loss_difference']:.1e}")
        whole = result.get("rounds")
        if whole and whole["flower"]:
            compared = min(rounds.LOSS_ROUNDS, len(whole["flower"][0]["loss"]))
            lines.append(
                f"{name}: clients' losses of the first {compared} rounds differ by {whole['loss_difference']:.1e};"
                f" Flower has {max(run['processes'] for run in whole['flower'])} processes and spends"
                f" {100 * rounds.share_in_steps(whole['flower']):.0f}% of a round in local steps"
            )
        if whole and whole["missing"]:
            lines.append(f"{name}: no Flower: {whole['missing']}")
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
    parser.add_argument("--agnews", type=Path, default=ROOT / "data/agnews.h5", help="dataset.h5 of AG News")
    parser.add_argument("--repetitions", type=int, default=8, help="turns of each program (default 8)")
    parser.add_argument(
        "--program", type=Path, default=ROOT / "build/release/tests/step_benchmark", help="a built step_benchmark;"
        " --flower takes pf2lora from the folder above it"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--flower", action="store_true", help="whole rounds beside Flower, installed on first use")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of a run with --flower (default 4)")
    parser.add_argument("--without-steps", action="store_true", help="only what --flower adds")
    parser.add_argument("--small", action="store_true", help="only the random BERT")
    arguments = parser.parse_args()
    if arguments.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: the first one is not timed")
    if arguments.without_steps and (arguments.check or not arguments.flower):
        parser.error("--without-steps needs --flower, and leaves --check without anything to check")
    if arguments.data is None:
        arguments.data = ROOT / "data/sst2.h5"
        if not arguments.data.exists():
            arguments.data = ROOT / "data/wordnet.h5"
            print("run.py: no data/sst2.h5 and no --data: taking wordnet, whose sentences are shorter", file=sys.stderr)
    arguments.pf2lora = arguments.program.resolve().parents[1] / "pf2lora"
    for path in (arguments.data, arguments.program, *([arguments.pf2lora] if arguments.flower else [])):
        if not path.exists():
            parser.error(f"{path} does not exist")
    return arguments


def work(arguments):
    """Name, model, data and steps of a turn."""
    minilm = ROOT / "models/minilm"
    found = [] if arguments.small else [("MiniLM", minilm, arguments.data, 3)]
    found.append(("2 layers x 128", small_bert(), arguments.data, 20))
    if arguments.small or arguments.without_steps:
        return found
    if arguments.agnews.exists():
        found.append((AG_NEWS, minilm, arguments.agnews, 1))
    else:
        print(f"run.py: no {arguments.agnews}: leaving out the rows of AG News", file=sys.stderr)
    return found


def main():
    arguments = parse_arguments()
    missing = rounds.flower_missing() if arguments.flower else None
    os.environ["OMP_NUM_THREADS"] = "1"
    cores = os.sched_getaffinity(0)
    core = max(cores)
    os.sched_setaffinity(0, {core})  # all programs inherit it
    OUTPUT.mkdir(parents=True, exist_ok=True)

    load = os.getloadavg()[0]
    results = {}
    for name, model, data, steps in work(arguments):
        results[name] = {} if arguments.without_steps else Bench(arguments, model, data, steps).run()
        if arguments.flower and data == arguments.data:
            results[name]["rounds"] = measure_rounds(arguments, model, cores - {core} or cores, missing)

    steps, met = step_table(results)
    core_told, core_met = core_lines(results)
    met = met and core_met
    report = [f"{cpu_model()}, core {core} alone, load {load:.1f} at the start; {arguments.data.name}, batch 16", ""]
    report += steps + [""] + core_told + half_lines(results) + [""] + fresh_table(results) + [""]
    report += loss_lines(results, arguments.repetitions + 1)
    text = "\n".join(report)
    print(text)
    (OUTPUT / "steps.md").write_text(text + "\n")
    (OUTPUT / "steps.json").write_text(json.dumps({"cpu": cpu_model(), "load": load, "results": results}, indent=1))
    return 1 if arguments.check and not met else 0


if __name__ == "__main__":
    sys.exit(main())
