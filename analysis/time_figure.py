"""The figure of the time of a run, or of several, by phase of the rounds."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .runs import Configuration, Run
from .style import GREY, PHASE, Plot, canvas, legend_below, round_axis, styled

LEAST_SHARE = 1 / 300  # of the longest bar: what is shorter leaves no colour in print


@styled
def time_by_phase(groups: list[Configuration]) -> Plot | None:
    """Seconds by phase: by round and by process for one run, totals for several."""
    timed = [Configuration(g.label, [run for run in g.runs if run.data["phase_seconds"].size]) for g in groups]
    timed = [g for g in timed if g.runs]
    if not timed:
        return None
    return _time_of_one(timed[0].first) if sum(len(g.runs) for g in timed) == 1 else _time_of_many(timed)


def _phase_colour(phase: str) -> str:
    return PHASE.get(phase, GREY)


def _phase_name(phase: str) -> str:
    return phase.replace("_", "-")


def _stack(axes, values: dict, places, horizontal: bool, width: float = 0.8) -> dict:
    base, handles = np.zeros(len(places)), {}
    for phase, seconds in values.items():
        colour = _phase_colour(phase)
        if horizontal:
            axes.barh(places, seconds, width, left=base, color=colour)
        else:
            axes.bar(places, seconds, width, bottom=base, color=colour)
        base = base + seconds
        handles[_phase_name(phase)] = Patch(color=colour)
    longest = 1.05 * base.max(initial=0) or 1
    axes.set(**{"xlim" if horizontal else "ylim": (0, longest)})
    return handles


def _visible(parts: list[dict]) -> tuple[list[str], str]:
    """Phases that can be seen in stacks {phase: seconds}, and what a caption says of the others."""
    seen = {phase: any(part[phase].max(initial=0) > LEAST_SHARE * sum(part.values()).max(initial=0) for part in parts)
            for phase in parts[0]}
    left_out = ", ".join(_phase_name(phase) for phase in seen if not seen[phase])
    told = f" Too short to be seen, and left out: {left_out}." if left_out else ""
    return [phase for phase in seen if seen[phase]], told


def _time_of_one(run: Run) -> Plot:
    seconds = run.data["phase_seconds"].transpose("round", "phase", "process").values
    phases, rounds = [str(p) for p in run.data["phase"].values], run.data["round"].values
    processes = seconds.shape[2]
    figure = canvas(3.1)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    by_round = {p: seconds.mean(axis=2)[:, i] for i, p in enumerate(phases)}
    by_process = {p: seconds.sum(axis=0)[i] for i, p in enumerate(phases)}
    shown, left_out = _visible([by_round, by_process])
    if len(rounds) <= 60:
        handles = _stack(left, {p: by_round[p] for p in shown}, rounds, False)
    else:
        areas = left.stackplot(rounds, [by_round[p] for p in shown], linewidth=0, colors=[*map(_phase_colour, shown)])
        handles = dict(zip(map(_phase_name, shown), areas))
    left.set_title("by round, mean over processes" if processes > 1 else "by round")
    left.set_ylabel("seconds")
    round_axis(left)
    _stack(right, {p: by_process[p] for p in shown}, np.arange(processes), True, 0.7 if processes <= 32 else 1.0)
    right.set_title("by process, all rounds")
    right.set_xlabel("seconds")
    right.set_ylabel("process (MPI rank)")
    right.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    right.set_ylim(processes - 0.4, -0.6)
    left.grid(axis="x", visible=False)
    right.grid(axis="y", visible=False)
    legend_below(figure, handles)
    return Plot("time_by_phase", f"Wall time by phase of the round, as each process measured it.{left_out}", figure)


def _time_of_many(groups: list[Configuration]) -> Plot:
    figure = canvas(1.5 + 0.34 * len(groups))
    axes = figure.subplots()
    totals = [[run.phase_totals() for run in g.runs] for g in groups]
    phases = list(dict.fromkeys(p for t in totals for one in t for p in one))
    means = {p: np.array([np.mean([one.get(p, 0.0) for one in t]) for t in totals]) for p in phases}
    shown, left_out = _visible([means])
    handles = _stack(axes, {p: means[p] for p in shown}, np.arange(len(groups)), True, 0.66)
    axes.set_yticks(np.arange(len(groups)), [g.label for g in groups])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    axes.set_xlabel("seconds, all rounds")
    legend_below(figure, handles)
    seeds = ", and over seeds" if any(len(g.runs) > 1 for g in groups) else ""
    return Plot("time_by_phase", f"Wall time by phase, mean over processes{seeds}.{left_out}", figure)
