#!/usr/bin/env python3
"""Runs a grid of experiments (method x setting x seed x option) from one small TOML file, here or with Slurm."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import sweep_runs as runs_on_disk  # noqa: E402
from sweep_grid import SweepError, read_sweep  # noqa: E402
from sweep_runner import Item, Sweep  # noqa: E402
from sweep_runs import OTHER, ROOT, Program  # noqa: E402

BAD_USE, INTERRUPTED = 2, 130  # exit codes beside those of Sweep.execute

DESCRIPTION = """
Runs every combination of the lists of a sweep file. What is done is skipped, what was interrupted goes on from its
checkpoint, a failed run stops no other. Then: .venv/bin/python -m analysis.report FOLDER

A sweep file (paths in options are taken from the checkout):

  [options]                    # of all runs, as in an ini file
  config = "jobs/experiments/wordnet.ini"
  validation-share = 0.2
  [grid]                       # the product of these lists
  seed = [1, 2, 3]
  setting = [{name = "dir0.1", partition = "dirichlet", dirichlet-alpha = 0.1},
             {name = "sort", partition = "label-sort", vary = {label-sort = [0.5, 0.9]}}]
  method = [{name = "pf2lora", algorithm = "pf2lora", client-learning-rate = [0.03, 0.1]},
            {name = "joint", algorithm = "pf2lora", hypergradient = "joint"}]
  [tune]                       # lists that every method is tuned over, its own ones apart
  learning-rate = [1e-3, 2e-3, 5e-3]

A list in a method is its tuning grid: the report takes the value with the best validation accuracy. `vary` makes one
setting or method of each value. Any other option may stand in [grid] with a list of values.
"""


def index_ranges(indices: list[int]) -> str:
    """Ascending numbers as Slurm writes them: 0-3,7."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def write_list(output: Path, items: list[Item]) -> None:
    """sweep.json, which tells analysis.report what each run is; replaced whole."""
    listed = [{"path": item.run.path, "setting": item.run.setting, "method": item.run.method or item.options["algorithm"],
               "seed": item.run.seed, "rounds": int(item.options["rounds"]), "tuned": item.run.tuned} for item in items]
    text = json.dumps({"format": "pf2lora-sweep", "format_version": 1, "runs": listed}, indent=1)
    output.mkdir(parents=True, exist_ok=True)
    partial = output / f"sweep.json.{os.getpid()}"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(output / "sweep.json")


def submit(chosen, items: list[Item], output: Path, further: list[str]) -> int:
    """One job array of the runs that are left, each task one of them."""
    left = [item.index for item in items if not item.finished(chosen.retry)]
    if not left:
        print(f"sweep: all {len(items)} runs are done")
        return 0
    # The array runs the file as it is now, whatever becomes of it until the last task starts.
    text = Path(chosen.file).read_bytes()
    kept = output / "logs" / f"{Path(chosen.file).stem}-{hashlib.sha256(text).hexdigest()[:8]}.toml"
    at_once = f"%{chosen.slots}" if chosen.slots else ""
    tasks = max(min(chosen.ranks, runs_on_disk.groups(items[i].options)) for i in left)
    command = ["sbatch", f"--array={index_ranges(left)}{at_once}", f"--ntasks={tasks}",
               f"--output={output / 'logs' / 'slurm-%A_%a.log'}", *chosen.sbatch, "jobs/slurm/sweep.sbatch", str(kept),
               "--output", str(output), "--ranks", str(chosen.ranks), "--program", chosen.program]
    command += (["--retry"] if chosen.retry else []) + (["--", *further] if further else [])
    print(shlex.join(command), flush=True)
    if chosen.dry_run:
        return 0
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(text)
    write_list(output, items)
    try:
        return subprocess.run(command, cwd=ROOT).returncode
    except OSError as error:
        raise SweepError(f"sbatch cannot be started ({error.strerror}); --slurm needs Slurm on this machine") from error


def usable_cores() -> int:
    done = subprocess.run(["bash", "-c", "source jobs/machine.sh && usable_cores"], cwd=ROOT, capture_output=True,
                          text=True)
    return int(done.stdout) if done.returncode == 0 else os.cpu_count() or 1


def parse(arguments: list[str]):
    parser = argparse.ArgumentParser(
        prog="jobs/sweep.py", formatter_class=argparse.RawDescriptionHelpFormatter, description=DESCRIPTION,
        usage="jobs/sweep.py FILE.toml [--output FOLDER] [--slots N] [--ranks R] ... [-- PF2LORA_OPTION...]",
        epilog="Options of pf2lora behind -- go to every run. Exit code: 0 all done, 1 some runs failed, 2 bad use or "
               "a bad sweep file, 85 stopped and everything saved (with --index: the run's own).")
    parser.add_argument("file", metavar="FILE.toml", help="the sweep file")
    parser.add_argument("--output", metavar="FOLDER", help="where the runs go [results/<name of the file>]")
    parser.add_argument("--slots", metavar="N", type=int, default=0,
                        help="runs at a time [cores / ranks; with --slurm no limit]")
    parser.add_argument("--ranks", metavar="R", type=int, default=1,
                        help="MPI ranks of a run, at most its groups of clients; 1 runs without mpirun [1]")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their state (with --slurm: print the "
                        "command of the job array), run nothing")
    parser.add_argument("--list-index", action="store_true", help="print the numbers of the runs that are left, as "
                        "Slurm writes them")
    parser.add_argument("--index", metavar="I", type=int, help="run only the run of this number, once")
    parser.add_argument("--retry", action="store_true", help="start runs anew that failed numerically before")
    parser.add_argument("--slurm", action="store_true", help="submit what is left as one job array "
                        "(jobs/slurm/sweep.sbatch)")
    parser.add_argument("--sbatch", metavar="OPTION", action="append", default=[],
                        help="option of sbatch, such as --sbatch=--time=8:00:00; may be given several times")
    parser.add_argument("--launcher", metavar="WORDS", help="what starts a run in place of mpirun, such as "
                        "'srun --mpi=pmix -n {ranks}'")
    parser.add_argument("--program", metavar="FILE", help="[build/release/pf2lora]",
                        default=os.environ.get("PF2LORA_PROGRAM", str(ROOT / "build" / "release" / "pf2lora")))
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    chosen = parser.parse_args(arguments[:cut])
    for name in ("slots", "ranks"):
        if getattr(chosen, name) < (name == "ranks"):
            parser.error(f"--{name} is {getattr(chosen, name)}; give 1 or more")
    return chosen, arguments[cut + 1:]


def carry_out(chosen, further: list[str]) -> int:
    runs = read_sweep(Path(chosen.file), further)
    output = Path(chosen.output).resolve() if chosen.output else ROOT / "results" / Path(chosen.file).stem
    if chosen.index is not None and not 0 <= chosen.index < len(runs):
        raise SweepError(f"--index is {chosen.index}; the sweep has the runs 0 to {len(runs) - 1}")
    chosen.program = str(Path(chosen.program).resolve())
    cores = usable_cores()
    slots = chosen.slots or max(1, cores // chosen.ranks)
    program = Program(chosen.program, shlex.split(chosen.launcher) if chosen.launcher else None, bind=slots == 1)
    numbers = range(len(runs)) if chosen.index is None else [chosen.index]
    mine = [runs[i] for i in numbers]
    resolved = runs_on_disk.resolve(mine, program, output, cores, inputs=chosen.index is None)
    runs_on_disk.check_tuning(mine, resolved)
    items = [Item(i, run, options, output / run.path, output / "logs" / f"{run.path}.log")
             for i, run, options in zip(numbers, mine, resolved)]
    for item in items:
        item.look()

    if chosen.dry_run and not chosen.slurm:
        width = len(str(len(items)))
        for item in items:
            print(f"{item.index:>{width}}  {item.state:<13}  {item.run.path}" + (f"  ({item.why})" if item.why else ""))
        left = sum(not item.finished(chosen.retry) for item in items)
        print(f"sweep: {len(items)} runs, {left} left; files go to {output}")
        return 0
    for item in items:
        if item.state == OTHER:
            raise SweepError(f"{item.directory} holds a run with other options: {item.why}; choose another --output, "
                             "or remove that folder")
    if chosen.list_index:
        print(index_ranges([item.index for item in items if not item.finished(chosen.retry)]))
        return 0
    if chosen.slurm:
        return submit(chosen, items, output, further)
    if chosen.index is None:
        write_list(output, items)
        return Sweep(items, program, slots, chosen.ranks, chosen.retry).execute()
    sweep = Sweep(items, program, 1, chosen.ranks, chosen.retry, once=True, patience=60)
    code = sweep.execute()
    return abs(sweep.failures[-1].code) if sweep.failures else code


def main(arguments: list[str]) -> int:
    chosen, further = parse(arguments)
    try:
        return carry_out(chosen, further)
    except SweepError as error:
        print(f"sweep: {error}", file=sys.stderr)
    except OSError as error:
        print(f"sweep: {error}; choose another --output", file=sys.stderr)
    except KeyboardInterrupt:  # before anything ran
        return INTERRUPTED
    return BAD_USE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
