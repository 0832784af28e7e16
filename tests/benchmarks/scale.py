"""Times rounds of pf2lora against the number of clients and of ranks, on a random BERT of 2 layers and width 128."""

import argparse
import math
import os
import re
import statistics
import sys
from pathlib import Path

import h5py
import numpy as np
import rounds
import run as steps

FORECAST = "8192"  # clients, in 4,096 groups
EXAMPLES = 16  # that each client holds to train with; one more to test
WORK = (
    "--partition iid --lockstep 2 --local-steps 10 --batch-size 16 --rank 8 --client-rank 2 --lora-alpha 16"
    " --targets query,value --learning-rate 2e-3 --precision fp32 --threads 1 --evaluate-every 0"
    " --adaptation-steps none --spectra-every 0 --checkpoint-every 0 --progress lines"
).split() + ["--examples-per-client", str(EXAMPLES), "--test-examples-per-client", "1"]


def large_dataset(source, path, clients):
    """The rows of `source` over and over, as many as so many clients hold."""
    with h5py.File(source) as old, h5py.File(path, "w") as new:
        offsets, tokens, split = old["offsets"][:], old["tokens"][:], old["split"][:]
        wanted = {0: EXAMPLES * clients, 2: 4 * clients}  # by split: training, and test with some to spare
        rows = np.concatenate([np.resize(np.flatnonzero(split == s), count) for s, count in wanted.items()])
        lengths = np.diff(offsets)[rows]
        new["offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(offsets.dtype)
        new["tokens"] = np.concatenate([tokens[offsets[row]:offsets[row + 1]] for row in rows])
        for name, values in old.items():
            if name not in new:
                new[name] = values[:][rows] if values.shape[:1] == split.shape else values[()]
        new.attrs.update(old.attrs)


def start(program, model, data, output, ranks, options):
    """Runs the program to its end: the most memory of all ranks in MiB, and what it printed."""
    command = [str(program), "--overwrite", "--output", str(output), "--model", str(model), "--data", str(data)]
    command += WORK + options
    if ranks > 1:
        command = ["mpirun", "--oversubscribe", "-n", str(ranks)] + command
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    _, used, code, text = rounds.run_watched(command, root, os.sched_getaffinity(0), lambda _: None)
    if code != 0:
        raise SystemExit(f"scale.py: {' '.join(command)} ended with exit code {code}: {rounds.why_not(text)}")
    return used, text


def measure(program, model, data, output, ranks, options):
    """Of one run: seconds of the rounds after the first, memory of all ranks in MiB, and what it wrote and sent."""
    used, _ = start(program, model, data, output, ranks, options)
    with h5py.File(output / "results.h5") as file:
        phases = [name.decode() for name in file["phase"][:]]
        counted = [i for i, name in enumerate(phases) if name not in ("evaluate", "spectra")]
        seconds = file["phase_seconds"][:][:, counted]  # [round, phase, rank]
        local = phases.index("train")
        outside = 1 - seconds[1:, [counted.index(local)]].sum() / seconds[1:].sum()
        up = int(file["bytes_up"][:][1].sum())
    later = seconds.sum(axis=1).max(axis=1)[1:].tolist()
    return {"seconds": later, "outside": outside, "memory": used["Pss"], "own": used["Pss_Anon"], "bytes_up": up,
            "results": (output / "results.h5").stat().st_size}


def seconds(text):
    """Of a duration as the program prints it: 4.66 ms, 2 min 05 s."""
    units = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
    words = text.split()
    return sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2]))


def forecast(page):
    """Rows of a dry run on two ranks: ranks, seconds of local steps and of the all-reduce, ranks busy, speed-up.

    A round on P ranks takes the local steps of the busiest rank, whose groups the program has placed, and an all-reduce
    of log2(P) exchanges, each as long as the one that two ranks took.
    """
    exchange = seconds(re.search(r"all-reduce of a round +(.+)", page)[1])
    found = re.findall(r"^ *([\d,]+) +(\d.*?) {2,}\d.*? {2,}([\d.]+)%$", page.partition("ranks busy")[2], re.MULTILINE)
    first = seconds(found[0][1])  # the others are printed with fewer digits than how busy their ranks are
    for count, _, percent in found:
        ranks, busy = int(count.replace(",", "")), float(percent) / 100
        steps, all_reduce = first / (ranks * busy), math.log2(ranks) * exchange
        yield ranks, steps, all_reduce, busy, first / (steps + all_reduce)


def forecast_table(page):
    head = ("ranks", "seconds of local steps", "ms of the all-reduce", "ranks busy", "one rank over them")
    lines = [row(*head), row(*["---"] * len(head))]
    for ranks, steps, all_reduce, busy, speed_up in forecast(page):
        lines.append(row(ranks, f"{steps:.3g}", f"{1e3 * all_reduce:.2g}", f"{100 * busy:.1f}%", f"{speed_up:.0f}"))
    return lines


def row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def table(title, runs):
    """`runs`: what a row is of, and what was measured."""
    head = (title, "seconds a round (range)", "over the first row", "outside local steps", "memory of all ranks, MiB",
            "results.h5, MiB", "up in a round, MiB")
    lines = [row(*head), row(*["---"] * len(head))]
    first = statistics.median(runs[0][1]["seconds"])
    for name, run in runs:
        seconds, mega = run["seconds"], 1 << 20
        lines.append(row(name, f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})",
                         f"{statistics.median(seconds) / first:.2f}", f"{100 * run['outside']:.1f}%",
                         f"{run['memory']:.0f}", f"{run['results'] / mega:.1f}", f"{run['bytes_up'] / mega:.1f}"))
    return lines


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=steps.ROOT / "data/sst2.h5", help="whose rows are repeated")
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000, 10000, 100000])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=8, help="of a run; the first is not timed (default 8)")
    parser.add_argument("--program", type=Path, default=steps.ROOT / "build/release/pf2lora")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error(f"--rounds {arguments.rounds}: give at least 2, since the first is not timed")
    return arguments


def main():
    arguments = parse_arguments()
    steps.OUTPUT.mkdir(parents=True, exist_ok=True)
    model, data, output = steps.small_bert(), steps.OUTPUT / "large.h5", steps.OUTPUT / "scale"
    large_dataset(arguments.data, data, max(*arguments.clients, int(FORECAST)))
    report = open(steps.OUTPUT / "scale.md", "w")  # noqa: SIM115: open as long as the program runs

    def tell(*lines):
        for file in (sys.stdout, report):
            print(*lines, "", sep="\n", file=file, flush=True)

    def compare(title, unit, cases):
        runs = []
        for name, ranks, options in cases:
            print(f"scale.py: {title}: {name}", file=sys.stderr)
            options = ["--rounds", arguments.rounds, *options]
            runs.append((name, measure(arguments.program, model, data, output, ranks, [*map(str, options)])))
        tell(title, "", *table(unit, runs))

    tell(f"{steps.cpu_model()}, {os.cpu_count()} cores")
    some = [count for count in arguments.clients if count <= 1000]
    compare("pf2lora, 80 clients a round", "ranks",
            [(ranks, ranks, ["--algorithm", "pf2lora", "--clients", 100, "--clients-per-round", 80])
             for ranks in arguments.ranks])
    print("scale.py: forecast", file=sys.stderr)
    dry = ["--dry-run", "--algorithm", "pf2lora", "--clients", FORECAST]
    _, page = start(arguments.program, model, data, output, 2, dry)
    tell(f"pf2lora, {FORECAST} clients, all in each round: forecast from steps and an all-reduce on two ranks", "",
         *forecast_table(page))
    compare("pf2lora, every client takes part, one local step", "clients",
            [(count, 1, ["--algorithm", "pf2lora", "--clients", count, "--clients-per-round", 0, "--local-steps", 1])
             for count in some])
    for method in ("homlora", "pf2lora"):
        compare(f"{method}, 20 clients a round on one rank", "clients",
                [(count, 1, ["--algorithm", method, "--clients", count, "--clients-per-round", 20])
                 for count in arguments.clients])


if __name__ == "__main__":
    main()
