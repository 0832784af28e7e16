"""Figures of a comparison: scores by method and setting with every seed, over rounds, and ablations."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN, CARETLEFT, CARETRIGHT, CARETUP
from matplotlib.ticker import MaxNLocator, NullFormatter

from . import statistics
from .comparison import Comparison, contenders
from .comparison_tables import Ablation, judged_after
from .measure import capital
from .runs import AS_THEY_ARE, PERMUTED, show
from .style import (ADAPTED, GREY, LINES, WIDTH, Look, Plot, canvas, configuration_styles, legend_below, score_axis,
                    styled)
from .tables import marked

_ACROSS = 3  # panels in a row
_READERS = {AS_THEY_ARE: "^", PERMUTED: "v"}
_LEFT_RIGHT, _DOWN_UP = (CARETLEFT, CARETRIGHT), (CARETDOWN, CARETUP)  # arrows whose tips are where they stand
_CUT = "interval goes on"  # in legends, of arrows
_LOG_SPAN = 20  # largest over smallest value of an option from which on its axis is logarithmic


def _styles(comparison: Comparison) -> dict[str, Look]:
    """The look of each method, the same in all figures."""
    methods = {method: cell.first.algorithm for (_, method), cell in reversed(comparison.cells.items())}
    names = comparison.methods
    return dict(zip(names, configuration_styles([methods[name] for name in names])))


def _names(comparison: Comparison) -> dict[str, str]:
    """{method: what figures call it}."""
    kinds = {run.method: run.deployed for run in comparison.runs}
    return {method: marked(method, kinds[method]) for method in comparison.methods}


def _panels(comparison: Comparison, height: float, sharey: bool):
    settings = comparison.settings
    across = min(_ACROSS, len(settings))
    rows = math.ceil(len(settings) / across)
    figure = canvas(rows * height + 0.5, width=WIDTH if across > 1 else 5.0)
    grid = figure.subplots(rows, across, sharey=sharey, squeeze=False)
    for axes in grid.ravel()[len(settings):]:
        axes.set_visible(False)
    return figure, grid, dict(zip(settings, grid.ravel()))


def _score_axis(axis, comparison: Comparison) -> str:
    """Formats an axis of headline scores; returns its label."""
    measure = comparison.measure
    score_axis(axis, measure)
    return f"log10 of {measure.name}" if comparison.is_matrix else f"personal {measure.axis}"


def _told(comparison: Comparison) -> str:
    """The headline score at the beginning of a caption."""
    return capital(comparison.measure.personal(comparison.measure.name))


def _notes(comparison: Comparison) -> str:
    """What ends a caption."""
    return ("" if comparison.is_matrix else comparison.measure.direction) + judged_after(comparison.runs)


def _limits(points, bounds: tuple[float, float]) -> tuple[float, float]:
    """Limits of an axis around points, with room for intervals; of few seeds these may be wide, and end in arrows.

    None is further beyond the bounds of a score than by a hundredth of what lies between them.
    """
    points = np.array([point for point in points if not math.isnan(point)])
    if not points.size:
        return 0.0, 1.0
    room = max(0.35 * np.ptp(points), 1e-3 * abs(points).max(), 1e-9)
    low, high = points.min() - room, points.max() + room
    beyond = 0.01 * (bounds[1] - bounds[0]) if all(map(math.isfinite, bounds)) else 0.0
    return max(low, bounds[0] - beyond), min(high, bounds[1] + beyond)


def _draw_interval(axes, place: float, ends: tuple[float, float], colour, upright: bool) -> dict:
    """The part of an interval that an axis shows, an arrow where it goes on; what the legend says of arrows."""
    shown = axes.get_ylim() if upright else axes.get_xlim()
    kept = np.clip(ends, min(shown), max(shown))

    def draw(values, **how):
        x, y = (np.full(len(values), place), values) if upright else (values, np.full(len(values), place))
        axes.plot(x, y, color=colour, **how)

    draw(kept, linewidth=1.6, solid_capstyle="butt")
    cut = {marker: end for marker, end, whole in zip(_DOWN_UP if upright else _LEFT_RIGHT, kept, ends) if end != whole}
    for marker, end in cut.items():
        draw([end], linestyle="none", marker=marker, markersize=7, clip_on=False, zorder=3)
    marker = (_DOWN_UP if upright else _LEFT_RIGHT)[1]
    return {_CUT: Line2D([], [], color="black", linestyle="none", marker=marker, markersize=7)} if cut else {}


@styled
def by_method(comparison: Comparison) -> Plot:
    """Headline score of each method, a panel a setting: seeds, their mean and its 95% interval, and the controls."""
    methods, styles, handles, cut = comparison.methods, _styles(comparison), {}, {}
    figure, grid, panels = _panels(comparison, 0.75 + 0.27 * len(methods), sharey=True)
    for setting, axes in panels.items():
        points, intervals = [], []
        for cell in comparison.of(setting):
            y, colour = methods.index(cell.method), styles[cell.method].colour
            seeds = cell.over_seeds(lambda run: run.headline)
            mean, half, n = statistics.mean_interval(seeds)
            points += seeds
            for beside in contenders(cell)[1:]:
                points.append(beside.mean)
                handles[ADAPTED] = axes.plot(
                    beside.mean, y, linestyle="none", marker="D", markersize=4.5, markerfacecolor="white",
                    markeredgecolor="black", zorder=2.5)[0]
            for (name, marker), permuted in zip(_READERS.items(), (False, True)):
                part = statistics.macro_mean(cell.over_seeds(lambda run: run.mean_of_readers(permuted)))
                points.append(part)
                if not math.isnan(part):
                    axes.plot(part, y - 0.26, linestyle="none", marker=marker, markersize=4, color=colour)
                    handles[name] = Line2D([], [], color="black", linestyle="none", marker=marker, markersize=4)
            intervals += [(y, (mean - half, mean + half), colour)] if n > 1 else []
            axes.plot(seeds, np.full(len(seeds), y + 0.26), linestyle="none", marker="o", markersize=3, color=colour,
                      alpha=0.55, markeredgewidth=0)
            axes.plot(mean, y, linestyle="none", marker="o", markersize=5.5, color=colour, zorder=3)
        majority = statistics.macro_mean([run.mean("majority") for cell in comparison.of(setting)
                                          for run in cell.runs])
        if not math.isnan(majority):
            handles["majority class"] = axes.axvline(majority, color=GREY, linestyle=LINES[1], linewidth=1)
        axes.set_xlim(*_limits([*points, majority], comparison.measure.bounds))
        for interval in intervals:
            cut |= _draw_interval(axes, *interval, upright=False)
        axes.set_title(setting)
        axes.set_yticks(range(len(methods)), list(_names(comparison).values()))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(_score_axis(axes.xaxis, comparison))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.grid(axis="y", visible=False)
        axes.set_ylim(len(methods) - 0.4, -0.6)
    black = {"color": "black", "linestyle": "none", "marker": "o"}
    marks = {"mean": Line2D([], [], markersize=5.5, **black)}
    if any(len(cell.runs) > 1 for cell in comparison.cells.values()):
        marks = {"mean and 95% interval": Line2D([], [], color="black", marker="o", markersize=5.5, linewidth=1.6),
                 **cut, "one seed": Line2D([], [], markersize=3, alpha=0.55, **black)}
    legend_below(figure, marks | handles)
    last = "" if comparison.is_matrix else " at the last evaluation"
    return Plot("score_by_method", f"{_told(comparison)}{last} by method and setting: mean over clients, every "
                f"seed, and the mean over seeds with its 95% t-interval.{_notes(comparison)}", figure)


@styled
def by_round(comparison: Comparison) -> Plot | None:
    """The score over rounds, a panel a setting, a line a method; bands: standard deviation over seeds."""
    styles, handles = _styles(comparison), {}
    legend = 0.12 * len(comparison.methods) / math.ceil(len(comparison.settings) / _ACROSS)
    figure, grid, panels = _panels(comparison, 2.5 + legend, sharey=True)
    for setting, axes in panels.items():
        for cell in comparison.of(setting):
            kind = cell.first.deployed
            curves = [run.curves[kind] for run in cell.runs if kind in run.curves]
            shared = sorted(set.intersection(*(set(rounds.tolist()) for rounds, _ in curves))) if curves else []
            if len(shared) < 2:  # the last evaluation alone is in by_method
                continue
            values = np.array([means[np.isin(rounds, shared)] for rounds, means in curves])
            look = styles[cell.method]
            scale = comparison.measure.scale
            middle = scale * values.mean(axis=0)
            (handles[cell.method],) = axes.plot(shared, middle, **look.curve(len(shared)))
            if len(values) > 1 and not comparison.is_matrix:
                half = scale * values.std(axis=0, ddof=1)
                axes.fill_between(shared, middle - half, middle + half, color=look.colour, alpha=0.12, linewidth=0)
        axes.set_title(setting)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
        if comparison.is_matrix:
            axes.set_yscale("log")
        score_axis(axes.yaxis, comparison.measure)
    if not handles:
        return None
    for row in grid:
        row[0].set_ylabel(comparison.measure.personal(comparison.measure.axis))
    legend_below(figure, {name: handles[method] for method, name in _names(comparison).items() if method in handles})
    bands = "" if comparison.is_matrix else " Bands: standard deviation over seeds."
    return Plot("score_by_round", f"{_told(comparison)} by round: mean over clients and seeds.{bands}"
                f"{_notes(comparison)}", figure)


@styled
def ablation(comparison: Comparison, found: Ablation) -> Plot:
    """Headline score over the values of one option, a line for each group of runs that are alike otherwise."""
    values, styles, handles, intervals, cut = found.values, _ablation_styles(comparison, found), {}, [], {}
    figure = canvas(3.0 + 0.1 * len(found.lines), width=5.2)
    axes = figure.subplots()
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    places = {show(value): float(value) if numbers else i for i, value in enumerate(values)}
    log = numbers and values[0] > 0 and values[-1] / values[0] >= _LOG_SPAN
    for i, (label, line) in enumerate(found.lines.items()):
        line = sorted(line, key=lambda point: places[show(point[0])])
        summary = [statistics.mean_interval(cell.over_seeds(lambda run: run.headline)) for _, cell in line]
        x = np.array([places[show(value)] for value, _ in line])
        # Of the axis, so that intervals do not hide one another.
        shift = (i - (len(found.lines) - 1) / 2) * min(0.012 if numbers else 0.05, 0.3 / len(found.lines))
        x = x * 10 ** (shift * math.log10(values[-1] / values[0])) if log else x + shift * max(1e-12, _span(places))
        (handles[label],) = axes.plot(x, [mean for mean, _, _ in summary], **styles[label].curve(len(x)))
        intervals += [(place, (mean - half, mean + half), styles[label].colour)
                      for place, (mean, half, n) in zip(x, summary) if n > 1]
    axes.set_ylim(*_limits([seed for line in found.lines.values() for _, cell in line
                            for seed in cell.over_seeds(lambda run: run.headline)], comparison.measure.bounds))
    for interval in intervals:
        cut |= _draw_interval(axes, *interval, upright=True)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(list(places.values()), [show(value) for value in values])
    axes.minorticks_off()
    if not numbers:
        axes.set_xlim(-0.4, len(values) - 0.6)
    axes.set_xlabel(found.option)
    axes.set_ylabel(_score_axis(axes.yaxis, comparison))
    legend_below(figure, handles | cut)
    return Plot(f"ablation_{found.option}", f"{_told(comparison)} over {found.option}, all other options alike along a "
                f"line: mean over seeds and its 95% t-interval.{_notes(comparison)}", figure)


def _span(places: dict[str, float]) -> float:
    return max(places.values()) - min(places.values())


def _ablation_styles(comparison: Comparison, found: Ablation) -> dict[str, Look]:
    algorithms = [line[0][1].first.algorithm for line in found.lines.values()]
    return dict(zip(found.lines, configuration_styles(algorithms)))
