"""Times local steps of a model at full size, and its memory, by method, backend, precision, ranks and threads.

    tests/benchmarks/models.py --model DIRECTORY --data FILE.h5
"""

import argparse
import itertools
import os
import statistics
import sys
from pathlib import Path

import h5py
import run as steps
import scale

CLIENTS, STEPS = 4, 2  # of a round, and of a client in it


def measure(program, model, data, ranks, options):
    """Of one run: seconds of a client's step in each round after the first, and MiB of all ranks, in all and their own.

    The rounds of several ranks last as long as that of the slowest, which has its share of the clients.
    """
    output = steps.OUTPUT / "models"
    options = [*options, "--clients", str(CLIENTS), "--lockstep", "1", "--local-steps", str(STEPS)]
    used, _ = scale.start(program, model, data, output, ranks, options)
    with h5py.File(output / "results.h5") as file:
        train = [name.decode() for name in file["phase"][:]].index("train")
        seconds = file["phase_seconds"][:][1:, train].max(axis=1) / (CLIENTS // ranks * STEPS)
    return seconds.tolist(), used["Pss"], used["Pss_Anon"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory as transformers saves it")
    parser.add_argument("--data", type=Path, required=True, help="dataset.h5 that prepare.py made with its tokenizer")
    parser.add_argument("--methods", nargs="+", default=["homlora", "pf2lora"])
    parser.add_argument("--backends", nargs="+", default=["native", "reference"])
    parser.add_argument("--precisions", nargs="+", default=["fp32"], help="of the native backend: fp32, bf16, bf16x3")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help=f"each a divisor of {CLIENTS}")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of a rank")
    parser.add_argument("--rounds", type=int, default=4, help="of a run; the first is not timed (default 4)")
    parser.add_argument("--program", type=Path, default=steps.ROOT / "build/release/pf2lora")
    arguments = parser.parse_args()
    if any(CLIENTS % ranks for ranks in arguments.ranks):
        parser.error(f"--ranks {' '.join(map(str, arguments.ranks))}: give divisors of {CLIENTS}")
    if arguments.rounds < 2:
        parser.error(f"--rounds {arguments.rounds}: give at least 2, since the first is not timed")
    return arguments


def main():
    arguments = parse_arguments()
    steps.OUTPUT.mkdir(parents=True, exist_ok=True)
    if max(arguments.threads) > 1:  # else Open MPI binds each of two ranks to one core
        os.environ["OMPI_MCA_hwloc_base_binding_policy"] = "none"
    head = ("method", "backend", "precision", "ranks", "threads", "seconds a step (range)", "MiB of all ranks",
            "of these not shared")
    print(f"{arguments.model.resolve().name}, {arguments.data.name}, batches of 16; "
          f"{steps.cpu_model()}, {os.cpu_count()} cores", "", scale.row(*head), scale.row(*["---"] * len(head)), sep="\n")
    kinds = [("native", precision) for precision in arguments.precisions] if "native" in arguments.backends else []
    kinds += [("reference", "fp32")] if "reference" in arguments.backends else []
    runs = itertools.product(arguments.methods, kinds, arguments.ranks, arguments.threads)
    for method, (backend, precision), ranks, threads in runs:
        print(f"models.py: {method}, {backend}, {precision}, {ranks} ranks of {threads} threads", file=sys.stderr)
        options = ["--algorithm", method, "--backend", backend, "--precision", precision]
        options += ["--rounds", str(arguments.rounds), "--threads", str(threads)]
        seconds, memory, own = measure(arguments.program, arguments.model, arguments.data, ranks, options)
        timed = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        print(scale.row(method, backend, precision, ranks, threads, timed, f"{memory:.0f}", f"{own:.0f}"), flush=True)


if __name__ == "__main__":
    main()
