"""Figures of a rank study: ranks by client, site and round, correlations with intervals, known ranks."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from . import rank_study, ranks, statistics
from .figures import FEW_CLIENTS
from .rank_study import ENTROPY, EXAMPLES, MEASURES, OVERLAP, RATIO, TARGET, Study, Subject
from .rank_study_tables import SHORT
from .spectra import relations
from .style import (BLUE, GREEN, GREY, ORANGE, VERMILION, WIDTH, Plot, canvas, client_ticks, legend_below, names_height,
                    styled)

_PANELS = ("numerical rank (1e-2)", "entropy rank", "gap rank", ranks.NOISE_EDGE)


@styled
def by_client(study: Study, subject: Subject) -> Plot:
    """Four measures of the total by client, in order of what clients hold; the range of the iid control as a band."""
    causes = subject.causes
    cause = next((name for name in (TARGET, ENTROPY, EXAMPLES) if name in causes), None)
    names = [*_PANELS, *(name for name in (RATIO, OVERLAP) if ("", name) in subject.effects)]
    control = study.control(subject)
    rows = math.ceil(len(names) / 2)
    order = np.argsort(causes[cause][0], kind="stable") if cause else np.arange(subject.clients)
    x = np.arange(subject.clients)
    clients = subject.first.short_names[subject.first.trained][order] if subject.clients <= FEW_CLIENTS else []
    figure, handles = canvas(0.6 + 1.75 * rows + names_height(clients)), {}
    grid = figure.subplots(rows, 2, squeeze=False, sharex=True)
    for axes, name in zip(grid.ravel(), names):
        effect = ("total" if name in MEASURES else "", name)
        sites = (subject.measured[0]["total"] if effect[0] else subject.levels[0])[name][order]
        if control is not None and effect in control.effects:
            other = np.concatenate(control.effects[effect])
            handles["iid control, smallest to largest"] = axes.axhspan(np.nanmin(other), np.nanmax(other), color=GREY,
                                                                      alpha=0.25, linewidth=0)
        if sites.shape[1] > 1:
            axes.vlines(x, np.fmin.reduce(sites, axis=1), np.fmax.reduce(sites, axis=1), color=GREEN, linewidth=0.8,
                        alpha=0.6)
        handles["this run"] = axes.plot(x, subject.effects[effect][0][order], linestyle="none", marker="o", color=GREEN,
                                        markersize=4.5 if subject.clients <= FEW_CLIENTS else 2)[0]
        if subject.is_matrix and subject.truths[0] is not None and effect[0]:
            handles["the target's"] = axes.plot(x, subject.truths[0].of(name, subject.first)[order], linestyle="none",
                                                marker="_", markersize=13, color="black", markeredgewidth=1.6)[0]
        axes.set_title(name)
        axes.set_ylim(0, 1.1 * max(axes.dataLim.ymax, 1e-12))
        axes.grid(axis="x", visible=False)
    for axes in grid.ravel()[len(names):]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel(f"client, by {cause}" if cause else "client")
        client_ticks(axes.xaxis, clients)
    legend_below(figure, handles if len(handles) > 1 else {})
    lines = " Lines: smallest to largest site." if subject.first.data.sizes["site"] > 1 else ""
    return Plot("rank_by_client", f"Ranks of the total, and how the two levels stand to each other, by client"
                f"{f', in order of {cause}' if cause else ''}: mean over sites, first seed.{lines}", figure)


@styled
def by_site(subject: Subject) -> Plot | None:
    """Entropy rank, norm ratio and overlap by layer and client, a row of panels a target; None for a single site."""
    data = subject.first.data
    if data.sizes["site"] < 2:
        return None
    values = {"entropy rank, total": subject.measured[0]["total"]["entropy rank"], **subject.levels[0]}
    targets = list(dict.fromkeys(data["site_target"].values.tolist()))
    cause = next((name for name in (ENTROPY, EXAMPLES) if name in subject.causes), None)
    order = np.argsort(subject.causes[cause][0], kind="stable") if cause else np.arange(subject.clients)
    figure = canvas(0.4 + len(targets) * min(2.75, 1.05 + 0.16 * subject.clients), width=max(3.2, 2.4 * len(values)))
    grid = figure.subplots(len(targets), len(values), squeeze=False)
    for column, (name, of) in enumerate(values.items()):
        low, high = np.nanmin(of), np.nanmax(of)
        for row, target in enumerate(targets):
            at = np.flatnonzero(data["site_target"].values == target)
            axes = grid[row, column]
            image = axes.imshow(of[order][:, at], aspect="auto", cmap="viridis", vmin=low, vmax=high,
                                interpolation="nearest")
            axes.set_title(f"{name}\n{target}", fontsize=8)
            axes.set_xticks(range(len(at)), [str(layer) for layer in data["layer"].values[at]], fontsize=6.5)
            if len(at) > 12:
                axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
            few = subject.clients <= FEW_CLIENTS
            axes.set_yticks(range(subject.clients) if few else [],
                            [str(k) for k in np.flatnonzero(subject.first.trained)[order]] if few else [], fontsize=6.5)
            axes.grid(visible=False)
            if column == 0:
                axes.set_ylabel("client")
            if row == len(targets) - 1:
                axes.set_xlabel("layer")
        figure.colorbar(image, ax=grid[:, column], shrink=0.9, aspect=25)
    ordered = f", in order of {cause}" if cause else ""
    return Plot("rank_by_site", f"By client (rows{ordered}), layer and target, first seed.", figure)


@styled
def correlation_intervals(subject: Subject) -> Plot | None:
    """Spearman's rho of every measure with every cause, with its interval; those that leave out 0 in colour."""
    causes, effects = list(subject.causes), list(subject.effects)
    effects = [e for e in effects if any(not math.isnan(subject.correlations[(*e, c, True)].value) for c in causes)]
    if not causes or not effects:
        return None
    figure = canvas(0.9 + 0.19 * len(effects), width=WIDTH if len(causes) > 2 else 3.0 + 1.6 * len(causes))
    for axes, cause in zip(figure.subplots(1, len(causes), sharey=True, squeeze=False)[0], causes):
        for y, effect in enumerate(effects):
            c = subject.correlations[(*effect, cause, True)]
            colour = VERMILION if c.shown else GREY
            if not math.isnan(c.low):
                axes.plot([c.low, c.high], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(c.value, y, linestyle="none", marker="o", markersize=4, color=colour)
        axes.axvline(0, color="black", linewidth=0.7)
        axes.set_xlim(-1.05, 1.05)
        axes.set_title(cause, fontsize=7.5 if len(causes) > 3 else 9)
        labels = [SHORT.get(name, name) + (f", {term}" if term else "") for term, name in effects]
        axes.set_yticks(range(len(effects)), labels, fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(effects) - 0.4, -0.6)
    how = "mean over seeds and its 95% t-interval" if len(subject.runs) > 1 else "95% interval over clients"
    intervals = f": {how}. Coloured where the interval leaves out 0" if subject.has_intervals else ""
    return Plot("rank_correlations", f"Spearman's ρ over clients of every measure with what stands above{intervals}. "
                "Without a point: the same for every client.", figure)


@styled
def entropy_rank_relations(subject: Subject) -> Plot | None:
    """Entropy rank of the total and the norm ratio against everything that they are held against, first seed."""
    causes = [(_cause_label(subject, name), values[0]) for name, values in subject.causes.items()
              if name not in (TARGET, rank_study.ERROR)]
    effects = [("entropy rank, total", subject.effects["total", "entropy rank"][0])]
    if ("", RATIO) in subject.effects:
        effects.append((RATIO, subject.effects["", RATIO][0]))
    return relations("rank_study_relations", "Each client of the first seed.", effects, causes)


def _cause_label(subject: Subject, name: str) -> str:
    if name == ENTROPY:
        return "label entropy of the client, nats"
    if name == rank_study.LOSS:
        return ", ".join(part for part in (name, subject.first.measure.loss_unit) if part)
    difference = "personal − common" if subject.first.measure.higher_is_better else "common − personal"
    return name.replace(rank_study.GAIN, difference)


@styled
def beside_control(study: Study, subject: Subject) -> Plot | None:
    """Clients here and in the iid control side by side, a panel a measure; None without a control."""
    other = study.control(subject)
    if other is None:
        return None
    effects = [("total", name) for name in _PANELS] + [("", name) for name in (RATIO, OVERLAP)]
    effects = [e for e in effects if e in subject.effects and e in other.effects]
    figure = canvas(2.5)
    for axes, effect in zip(figure.subplots(1, len(effects), squeeze=False)[0], effects):
        for x, (of, colour) in enumerate(((subject, GREEN), (other, GREY))):
            values = np.concatenate(of.effects[effect])
            places = x + 0.32 * (np.random.default_rng(values.size).random(values.size) - 0.5)
            axes.plot(places, values, linestyle="none", marker="o", markersize=3, color=colour, alpha=0.7,
                      markeredgewidth=0)
            axes.plot([x - 0.25, x + 0.25], [statistics.macro_mean(values)] * 2, color="black", linewidth=1.4)
        axes.set_title(SHORT.get(effect[1], effect[1]), fontsize=8)
        axes.set_xticks([0, 1], ["here", "iid"])
        axes.set_xlim(-0.5, 1.5)
        axes.grid(axis="x", visible=False)
    return Plot("rank_beside_control", f"Clients of all seeds here and in the iid control ({other.label}): mean over "
                "sites of the total's measures. Bars: means.", figure)


@styled
def known_ranks(study: Study) -> Plot | None:
    """The matrix problem: share of clients whose rank, by each count, and whose matrix are right, by configuration."""
    subjects = [s for s in study.subjects if s.is_matrix and s.knows_ranks]
    if not subjects:
        return None
    settings = list(dict.fromkeys(s.setting for s in subjects))
    methods = list(dict.fromkeys(s.method or s.label for s in subjects))
    columns = (*_COUNTED, "matrix")
    figure = canvas(0.75 + (0.55 + 0.2 * len(methods)) * math.ceil(len(settings) / 2),
                    width=WIDTH if len(settings) > 1 else 5.0)
    grid = figure.subplots(math.ceil(len(settings) / 2), min(2, len(settings)), squeeze=False, sharey=True)
    for axes, setting in zip(grid.ravel(), settings):
        share = np.full((len(methods), len(columns)), np.nan)
        for s in (s for s in subjects if s.setting == setting):
            row = methods.index(s.method or s.label)
            share[row, :-1] = [s.right(name).mean() for name in _COUNTED]
            share[row, -1] = s.of_truths("matrix_right").mean()
        axes.imshow(share, vmin=0, vmax=1, cmap="YlGn", aspect="auto")
        for (row, column), value in np.ndenumerate(share):
            if not math.isnan(value):
                axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                          color="white" if value > 0.7 else "black")
        axes.set_title(setting)
        axes.set_xticks(range(len(columns)), [SHORT.get(name, name) for name in columns], fontsize=7, rotation=30,
                        ha="right")
        axes.set_yticks(range(len(methods)), methods, fontsize=7)
        axes.grid(visible=False)
        axes.tick_params(length=0)
    for axes in grid.ravel()[len(settings):]:
        axes.set_visible(False)
    return Plot("known_ranks", "Percent of clients (all seeds) for which the rank of the total by that measure is the "
                "target's, and for which the matrix is right.", figure)


_COUNTED = ("numerical rank (1e-2)", "numerical rank (1e-3)", "energy rank (99%)", "gap rank", ranks.NOISE_EDGE)


@styled
def learned_against_target(subject: Subject) -> Plot | None:
    """Learned rank over the target's by three counts; filled where the matrix is right."""
    if not subject.is_matrix or not subject.knows_ranks:
        return None
    counts = ("numerical rank (1e-2)", "gap rank", ranks.NOISE_EDGE)
    wanted = subject.of_truths("rank")
    right = subject.of_truths("matrix_right")
    figure = canvas(2.7)
    shift = 0.3 * (np.random.default_rng(wanted.size).random(wanted.size) - 0.5)
    panels = figure.subplots(1, len(counts), sharey=True)
    highest = max(wanted.max(), *(np.concatenate(subject.effects["total", n]).max() for n in counts))
    for axes, name in zip(panels, counts):
        learned = np.concatenate(subject.effects["total", name])
        axes.plot([0, highest + 1], [0, highest + 1], color=GREY, linewidth=0.8)
        for chosen, face in ((right, BLUE), (~right, "white")):
            axes.plot((wanted + shift)[chosen], learned[chosen], linestyle="none", marker="o", markersize=4.5,
                      markeredgecolor=BLUE if face == BLUE else ORANGE, markerfacecolor=face)
        axes.set_title(name)
        axes.set_xlabel("target rank")
        axes.set_xlim(wanted.min() - 0.7, wanted.max() + 0.7)
        axes.set_ylim(0, highest + 0.7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("learned rank")
    marks = {"matrix right": Line2D([], [], linestyle="none", marker="o", color=BLUE),
             "matrix wrong": Line2D([], [], linestyle="none", marker="o", markeredgecolor=ORANGE,
                                    markerfacecolor="white"),
             "as the target": Line2D([], [], color=GREY, linewidth=0.8)}
    legend_below(figure, marks)
    return Plot("learned_against_target", "Learned rank of the total over the target's, a point a client and seed, "
                "shifted sideways a little.", figure)
