"""Figures that follow a run, or several together: score or error by round and by client."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from .measure import Measure
from .runs import AS_THEY_ARE, PERMUTED, Configuration, Run, same_partition
from .style import (ADAPTED, FEW_POINTS, GREY, LINES, MEASURE, WIDTH, Plot, canvas, client_ticks, configuration_styles,
                    legend_below, names_height, round_axis, score_axis, styled)
from .tables import judged_after, marked
from .time_figure import time_by_phase

FEW_CLIENTS = 40  # up to here every client is drawn by itself
_LOW, _HIGH = 10, 90  # percentiles over clients that bands span
_FEWEST_OF_BAND = 10  # clients below which they span all of them
_READING_LINE = {AS_THEY_ARE: LINES[1], PERMUTED: LINES[2]}
_KIND_TITLE = {"personal": "personal", "common": "common part alone", "adapted": ADAPTED}


def overview(groups: list[Configuration]) -> list[Plot]:
    """The figures of all runs together; what no run recorded is left out."""
    if groups[0].first.is_matrix:
        plots = [error_by_round(groups)]
    else:
        plots = [score_by_round(groups), score_by_reading(groups), score_by_client(groups)]
    return [plot for plot in (*plots, time_by_phase(groups)) if plot]


def _curves(group: Configuration, name: str, reading: str | None = None):
    """Rounds that all seeds share, [seed, round] means over clients, [round, clients of all seeds]; None without.

    `reading` takes the clients that read their labels so.
    """
    found = [(run.data["evaluation"].values, run.by_round(name), run.readings().get(reading) if reading else run.trained,
              run.trained) for run in group.runs]
    found = [(rounds, values[:, chosen[trained]]) for rounds, values, chosen, trained in found
             if values is not None and chosen is not None]
    if not found:
        return None
    shared = sorted(set.intersection(*(set(rounds.tolist()) for rounds, _ in found)))
    if not shared:
        return None
    rows = [values[np.isin(rounds, shared)] for rounds, values in found]
    with np.errstate(invalid="ignore"):
        means = np.array([[np.nanmean(r) if not np.isnan(r).all() else np.nan for r in row] for row in rows])
    return np.array(shared), means, np.concatenate(rows, axis=1)


def client_band(values: np.ndarray) -> np.ndarray:
    """Lower and upper end of the band over clients of [.., client], [2, ..]."""
    ends = [_LOW, _HIGH] if values.shape[-1] >= _FEWEST_OF_BAND else [0, 100]
    return np.nanpercentile(values, ends, axis=-1)


def band_told(clients: list[int]) -> str:
    """What bands over so many clients span, in a caption."""
    few = [n < _FEWEST_OF_BAND for n in clients if n]
    if all(few):
        return "smallest to largest"
    return f"{_LOW}th to {_HIGH}th percentile" + (
        f" (of fewer than {_FEWEST_OF_BAND} smallest to largest)" if any(few) else "")


def _marker(rounds) -> dict:
    return {"marker": "o", "markersize": 3.2} if len(rounds) <= FEW_POINTS else {}


def _majority(group: Configuration) -> float | None:
    values = [(run.majority, run.trained) for run in group.runs]
    values = [np.nanmean(v[trained]) for v, trained in values if v is not None]
    return float(np.mean(values)) if values else None


def _kinds(group: Configuration, twice: bool) -> dict[str, tuple]:
    """Curves of the personal, common and adapted score; common only where it is not the personal one, or `twice`."""
    measure = group.first.measure
    curves = {kind: _curves(group, measure.of(kind)) for kind in ("personal", "common", "adapted")}
    curves = {kind: c for kind, c in curves.items() if c}
    if "personal" in curves and "common" in curves and not twice:
        if np.array_equal(curves["personal"][2], curves["common"][2], equal_nan=True):
            del curves["common"]
    return curves


@styled
def score_by_round(groups: list[Configuration]) -> Plot | None:
    """The score over evaluations: of one configuration with its spread, of several as a panel a kind.

    None where each has a single evaluation, which figures by client and tables show.
    """
    found, measure = [_kinds(group, twice=len(groups) > 1) for group in groups], groups[0].first.measure
    if not any(len(rounds) > 1 for curves in found for rounds, _, _ in curves.values()):
        return None
    if len(groups) == 1:
        return _score_of_one(groups[0], found[0])
    kinds = [kind for kind in ("personal", "common", "adapted") if any(kind in curves for curves in found)]
    figure = _panels_by_round(groups, [(_KIND_TITLE[kind], [curves.get(kind) for curves in found]) for kind in kinds],
                              majority=True)
    return Plot(f"{measure.short}_by_round",
                f"{measure.title} by round, mean over clients. Personal is what a client would deploy: the common part "
                f"where the method has no personal one.{measure.direction}" + _seed_bands(groups), figure)


@styled
def score_by_reading(groups: list[Configuration]) -> Plot | None:
    """The personal score over evaluations of the clients that read their labels permuted, and of the others.

    Of several configurations; the figure of a single one shows both.
    """
    measure = groups[0].first.measure
    curves = {name: [_curves(group, measure.of(group.first.deployed), name) for group in groups]
              for name in _READING_LINE}
    if len(groups) == 1 or not any(found for panel in curves.values() for found in panel):
        return None
    return Plot(f"{measure.short}_by_reading",
                f"Personal {measure.name} by round, mean over the clients that read their labels as they are, and over "
                "those that read them through a permutation of the classes." + _seed_bands(groups)
                + judged_after(groups), _panels_by_round(groups, list(curves.items())))


def _seed_bands(groups: list[Configuration]) -> str:
    return " Bands: standard deviation over seeds." if any(len(g.runs) > 1 for g in groups) else ""


def _panels_by_round(groups: list[Configuration], shown: list[tuple[str, list]], majority: bool = False):
    """A panel for each (title, curves of each configuration or None)."""
    figure = canvas(3.3 + 0.12 * len(groups), width=WIDTH)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    measure = groups[0].first.measure
    styles, handles = configuration_styles([g.first.algorithm for g in groups]), {}
    for axes, (title, found) in zip(panels, shown):
        axes.set_title(title)
        for group, curves, look in zip(groups, found, styles):
            if curves:
                rounds, means, _ = curves
                middle = measure.scale * means.mean(axis=0)
                (handles[group.label],) = axes.plot(rounds, middle, **look.curve(len(rounds)))
                if len(means) > 1:
                    half = measure.scale * means.std(axis=0, ddof=1)
                    axes.fill_between(rounds, middle - half, middle + half, color=look.colour, alpha=0.13, linewidth=0)
        round_axis(axes)
    levels = dict.fromkeys(round(level, 1) for g in groups if majority and (level := _majority(g)) is not None)
    if len(levels) <= 3:
        for level in levels:
            for axes in panels:
                axes.axhline(level, color=GREY, linestyle=LINES[2], linewidth=1)
            handles["majority class"] = Line2D([], [], color=GREY, linestyle=LINES[2], linewidth=1)
    panels[0].set_ylabel(f"{measure.axis} (mean over clients)")
    score_axis(panels[0].yaxis, measure)
    legend_below(figure, handles)
    return figure


def _score_of_one(group: Configuration, curves: dict) -> Plot:
    figure, measure = canvas(3.4, width=5.2), group.first.measure
    axes, handles, readers = figure.subplots(), {}, {}
    for kind, (rounds, means, clients) in curves.items():
        label = "personal = common" if kind == "personal" and "common" not in curves and _has_common(group) else kind
        if kind == "adapted":
            label = f"adapted, {group.first.adaptation_steps[-1]} local steps"
        (handles[label],) = axes.plot(rounds, measure.scale * means.mean(axis=0), color=MEASURE[kind], **_marker(rounds))
        for name, dashes in _READING_LINE.items():
            if (part := _curves(group, measure.of(kind), name)) is not None:
                axes.plot(part[0], measure.scale * part[1].mean(axis=0), color=MEASURE[kind], linestyle=dashes,
                          linewidth=1.1)
                readers[name] = Line2D([], [], color="black", linestyle=dashes, linewidth=1.1)
        if not readers:
            low, high = measure.scale * client_band(clients)
            axes.fill_between(rounds, low, high, color=MEASURE[kind], alpha=0.14, linewidth=0)
    if (level := _majority(group)) is not None:
        line = LINES[3] if readers else LINES[1]
        handles["majority class"] = axes.axhline(level, color=GREY, linestyle=line, linewidth=1.1)
    axes.set_ylabel(measure.axis)
    score_axis(axes.yaxis, measure)
    round_axis(axes)
    legend_below(figure, handles | readers)
    seeds = f" of {len(group.runs)} seeds" if len(group.runs) > 1 else ""
    others = (" (thick), over those that read their labels as they are, and over those that read them through a "
              "permutation of the classes (thin)" if readers else
              f" (line) and {band_told([c.shape[1] for _, _, c in curves.values()])} over clients (band)")
    return Plot(f"{measure.short}_by_round", f"{measure.title} by round: mean over clients{seeds}{others}."
                + measure.direction, figure)


def _has_common(group: Configuration) -> bool:
    return any(run.score("common") is not None for run in group.runs)


@styled
def score_by_client(groups: list[Configuration]) -> Plot | None:
    """The score of each client at the last evaluation, sorted by the personal one (first seed of a configuration)."""
    groups = [g for g in groups if g.first.score("personal") is not None]
    if not groups:
        return None
    return _bars(groups[0].first) if len(groups) == 1 else _client_points(groups)


def _bars(run: Run) -> Plot:
    chosen, measure = np.flatnonzero(run.trained), run.measure
    personal = run.score("personal")[chosen]
    order = np.lexsort((measure.loss_like(personal), run.permuted[chosen]))  # those with permuted labels last
    series = {"personal": personal[order]}
    others = {"common": run.score("common"), "adapted": run.score("adapted"), "majority": run.majority}
    series |= {kind: values[chosen][order] for kind, values in others.items() if values is not None}
    if "common" in series and np.array_equal(series["common"], series["personal"], equal_nan=True):
        del series["common"]
    names, n = run.short_names[chosen[order]], len(chosen)
    aggregate = n > FEW_CLIENTS
    if aggregate:
        parts = _parts(run.permuted[chosen][order])
        series = {kind: np.array([np.nanmean(v[p]) for p in parts]) for kind, v in series.items()}
    x = np.arange(len(series["personal"]))
    figure = canvas(3.2 + (0 if aggregate else names_height(names)), width=max(4.2, min(WIDTH, 2.2 + 0.4 * len(x))))
    axes, handles = figure.subplots(), {}
    bars = [kind for kind in ("personal", "common") if kind in series]
    width = 0.8 / len(bars)
    for i, kind in enumerate(bars):
        place = x + (i - (len(bars) - 1) / 2) * width
        axes.bar(place, series[kind], 0.92 * width, color=MEASURE[kind])
        handles[kind if kind == "common" or "common" in series else "personal = common"] = Patch(color=MEASURE[kind])
    if "common" not in series and others["common"] is None:
        handles = {"personal": handles.pop("personal = common")}
    if "adapted" in series:
        handles["adapted"] = axes.plot(x, series["adapted"], linestyle="none", marker="D", markersize=4.5,
                                       color=MEASURE["adapted"], markeredgecolor="white", markeredgewidth=0.6)[0]
    if "majority" in series:
        marks = axes.hlines(series["majority"], x - 0.44, x + 0.44, color="black", linewidth=1.6)
        handles["majority class"] = marks
    score_axis(axes.yaxis, measure)
    axes.set_ylim(*_bar_limits(axes, measure))
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(measure.axis)
    if aggregate:
        axes.set_xlabel(f"clients by personal {measure.name}, best first: means of {len(x)} equal parts of {n}")
        axes.set_xticks([])
    else:
        client_ticks(axes.xaxis, names)
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("client")
    axes.set_xlim(-0.7, len(x) - 0.3)
    if run.readings():
        first = int((~run.permuted[chosen]).sum())
        _shade_permuted(axes, sum(part[0] < first for part in parts) if aggregate else first, len(x))
    legend_below(figure, handles)
    marks = " Black marks: always answering the client's most frequent training class." if measure.classes else ""
    return Plot(f"{measure.short}_by_client", f"{measure.title} of each client on its own test examples at the last "
                f"evaluation, sorted by personal {measure.name}.{measure.direction}{marks}"
                + (_SHADED if run.readings() else ""), figure)


def _bar_limits(axes, measure: Measure) -> tuple[float, float]:
    """From 0, or from below it where a bar goes there, up to the highest possible score, or what is drawn."""
    low, high = axes.get_ylim()
    most = measure.bounds[1]
    return (low if low < 0 else 0, 1.03 * most if math.isfinite(most) else high)


_SHADED = " Shaded: clients that read their labels through a permutation of the classes."


def _parts(permuted: np.ndarray) -> list[np.ndarray]:
    """About FEW_CLIENTS equal parts of clients in order, none of which holds both kinds of readers."""
    cut = int((~permuted).sum())
    pieces = [piece for piece in (np.arange(cut), np.arange(cut, len(permuted))) if len(piece)]
    return [part for piece in pieces
            for part in np.array_split(piece, max(1, round(FEW_CLIENTS * len(piece) / len(permuted))))]


def _shade_permuted(axes, first: int, places: int) -> None:
    """Shades the places of the clients that read permuted labels, which are the last ones."""
    axes.axvspan(first - 0.5, places - 0.3, color="#F1ECE2", linewidth=0, zorder=0)
    middle = (first - 0.5 + places - 0.3) / 2
    axes.text(middle, 1.01, PERMUTED, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)


def _client_points(groups: list[Configuration]) -> Plot:
    """Clients as points in one order where the runs share a partition, else each run's clients sorted by themselves."""
    first = groups[0].first
    paired = all(same_partition(first, g.first) for g in groups) and first.trained.sum() <= FEW_CLIENTS
    styles = configuration_styles([g.first.algorithm for g in groups])
    room = names_height(first.short_names) if paired else 0
    figure, handles, beside = canvas(3.2 + 0.12 * len(groups) + room), {}, {}
    axes = figure.subplots()
    values, measure = [g.first.score(g.first.deployed)[g.first.trained] for g in groups], first.measure
    if paired:
        chosen = np.flatnonzero(first.trained)
        order = np.lexsort((measure.loss_like(values[0]), first.permuted[chosen]))  # those with permuted labels last
        x = np.arange(len(order))
        if first.majority is not None:
            level = first.majority[chosen][order]
            handles["majority class"] = axes.hlines(level, x - 0.42, x + 0.42, color="black", linewidth=1.4)
        for place in x[1::2]:  # bands tell whose the points are
            axes.axvspan(place - 0.5, place + 0.5, color="black", alpha=0.06, linewidth=0, zorder=0)
        axes.grid(axis="x", visible=False)
        shift = np.linspace(-0.28, 0.28, len(groups))
        for i, (group, v, look) in enumerate(zip(groups, values, styles)):
            mark = {"linestyle": "none", "marker": look.marker, "markersize": 5 if len(x) <= 20 else 3.2,
                    "color": look.colour}
            handles[marked(group.label, group.first.deployed)] = axes.plot(x + shift[i], v[order], **mark)[0]
            adapted = group.first.score("adapted")
            if adapted is not None and group.first.deployed != "adapted":
                axes.plot(x + shift[i], adapted[chosen][order], **mark, markerfacecolor="white", zorder=1.9)
                beside[ADAPTED] = Line2D([], [], **mark | {"color": "black", "marker": "o"}, markerfacecolor="white")
        client_ticks(axes.xaxis, first.short_names[chosen[order]])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.7, len(x) - 0.3)
        axes.set_xlabel("client")
        caption = "Clients in the order of the first configuration."
        if first.readings():
            _shade_permuted(axes, int((~first.permuted[chosen]).sum()), len(x))
            caption += _SHADED
    else:
        for group, v, look in zip(groups, values, styles):
            v = v[~np.isnan(v)]
            v = v[np.argsort(measure.loss_like(v), kind="stable")]
            place = (np.arange(len(v)) + 0.5) / len(v) * 100
            (handles[marked(group.label, group.first.deployed)],) = axes.plot(place, v, **look.curve(len(v)))
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
        axes.set_xlabel("share of clients, best first")
        caption = "The clients of each run sorted by themselves, best first."
    axes.set_ylabel(f"personal {measure.axis}")
    score_axis(axes.yaxis, measure)
    legend_below(figure, handles | beside)
    caption += f" Hollow: {ADAPTED}, on a copy, where what is deployed is not." if beside else ""
    seeds = " (first seed)" if any(len(g.runs) > 1 for g in groups) else ""
    return Plot(f"{measure.short}_by_client",
                f"Personal {measure.name} of each client at the last evaluation{seeds}.{measure.direction} {caption}"
                + judged_after(groups),
                figure)


@styled
def error_by_round(groups: list[Configuration]) -> Plot | None:
    """The matrix problem: relative error and loss over rounds, clients as thin lines, the mean over all as thick."""
    figure = canvas(3.3 + 0.12 * (len(groups) > 1) * len(groups))
    styles, handles, drawn = configuration_styles([g.first.algorithm for g in groups]), {}, False
    for axes, name, title in zip(figure.subplots(1, 2), ("relative_error", "personal_loss"), ("relative error", "loss")):
        for group, look in zip(groups, styles):
            if (curves := _curves(group, name)) is None:
                continue
            rounds, _, clients = curves
            clients = np.where(clients > 0, clients, np.nan)
            drawn = drawn or not np.isnan(clients).all()
            if clients.shape[1] <= FEW_CLIENTS:
                axes.plot(rounds, clients, color=look.colour, alpha=0.35, linewidth=0.7)
            else:
                axes.fill_between(rounds, *client_band(clients), color=look.colour, alpha=0.15)
            mean = np.array([np.nanmean(row) if not np.isnan(row).all() else np.nan for row in clients])
            (handles[group.label],) = axes.plot(rounds, mean, **look.curve(len(rounds), linewidth=1.8))
        axes.set_yscale("log")
        axes.set_title(title)
        round_axis(axes)
    if not drawn:
        return None
    if len(groups) > 1:
        legend_below(figure, handles)
    return Plot("error_by_round", "Relative error of each client's matrix and its loss by round. Thin: clients (of every "
                "seed; with many, 10th to 90th percentile). Thick: mean.", figure)
