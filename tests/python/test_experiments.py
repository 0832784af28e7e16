"""Every file of jobs/experiments is one that the program, the sweeps and jobs/prepare.py take as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from program import PROGRAM, ROOT, needs_program, run

sys.path[:0] = [str(ROOT / "jobs")]

from prepare_options import check_usage, make_parser  # noqa: E402
from sweep_grid import Run, read_sweep  # noqa: E402
from sweep_runs import Program, parse_ini, resolve  # noqa: E402

EXPERIMENTS = ROOT / "jobs" / "experiments"
INIS, SWEEPS = sorted(EXPERIMENTS.rglob("*.ini")), sorted(EXPERIMENTS.rglob("*.toml"))
PAPER = sorted((EXPERIMENTS / "paper").glob("*.ini"))


def named(path: Path) -> str:
    return str(path.relative_to(EXPERIMENTS))


def settings(path: Path) -> dict[str, str]:
    return parse_ini(path.read_text("utf-8"))


def commands(path: Path) -> list[list[str]]:
    """The arguments of the prepare.py commands in a file's comments."""
    comments = "\n".join(line[1:] for line in path.read_text("utf-8").splitlines() if line.startswith("#"))
    found = re.findall(r"jobs/prepare\.py ((?:.*\\\n)*.*)", comments)
    return [shlex.split(command.replace("\\\n", " ")) for command in found]


def told_apart(runs: list[Run]) -> list[Run]:
    """The first run of every method and of every value of an option: a method is not asked about in each setting."""
    seen: set[object] = set()
    found = []
    for one in runs:
        facts = {("method", one.method), *((name, value) for name, value in one.options.items() if name != "seed")}
        facts |= set(one.configs)
        found += [] if facts <= seen else [one]
        seen |= facts
    return found


def as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@needs_program
@pytest.mark.parametrize("path", INIS, ids=named)
def test_an_experiment_is_one_that_the_program_takes(path):
    printed = parse_ini(run({"config": path, "print-config": True}).stdout)
    for name, value in settings(path).items():
        assert as_number(printed[name]) == as_number(value) or value == "auto", name


@needs_program
@pytest.mark.parametrize("path", SWEEPS, ids=named)
def test_the_runs_of_a_sweep_are_ones_that_the_program_takes(path, tmp_path):
    runs = told_apart(read_sweep(path, []))
    assert len(resolve(runs, Program(str(PROGRAM)), tmp_path, at_once=2, inputs=False)) == len(runs) > 0


@pytest.mark.parametrize("path", PAPER, ids=named)
def test_an_experiment_of_the_paper_says_how_its_data_is_made(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no output of theirs exists
    hub, files = (make_parser(None).parse_args(words) for words in commands(path))
    for options in (hub, files):
        check_usage(options)
        assert (options.model, options.output) == (settings(path)["model"], settings(path)["data"])
    assert hub.train is None and files.train and files.test and hub.dataset == files.dataset
    assert {"The paper's:", "Ours:"} <= set(re.findall(r"^# ([\w' ]+:)", path.read_text("utf-8"), re.M))


def test_there_is_an_experiment_for_every_one_of_the_paper():
    assert {path.stem for path in PAPER} == {
        "cola", "sst2", "mnli", "qqp", "qnli", "squad-deberta", "squad-v2-deberta", "squad-roberta-large",
        "squad-v2-roberta-large", "e2e-gpt2-medium", "e2e-gpt2-xl", "webnlg-gpt2-medium", "webnlg-gpt2-xl"}
