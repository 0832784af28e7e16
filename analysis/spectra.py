"""Figures of what was learned: singular spectra, ranks by round and client, and what they go along with."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

from . import ranks, statistics
from .figures import FEW_CLIENTS
from .runs import Configuration, Run
from .style import (ALONE, FEW_POINTS, GREEN, TERM, TERM_LINE, TERM_NAME, Plot, canvas, configuration_styles,
                    legend_below, round_axis, styled)
from .tables import ALONE_NOTE

_COLUMNS = 6
_MOST_LAYERS = 12
_SHOWN = ("entropy rank", "numerical rank (1e-2)")


def details(run: Run) -> list[Plot]:
    """The figures that belong to one run; what it did not record is left out."""
    plots = [singular_spectra(run)]
    if run.is_matrix:
        plots.append(rank_bars(run))
    else:
        plots += [rank_relations(run), norm_ratio_relations(run)]
    return [plot for plot in plots if plot]


def _panel_sites(run: Run) -> tuple[list[list[int]], str]:
    """Sites by rows of panels (a target, at most six layers), and what the caption says of layers left out."""
    layers, targets = run.data["layer"].values, run.data["site_target"].values
    distinct = sorted(set(layers.tolist()))
    note = ""
    if len(distinct) > _MOST_LAYERS:
        kept = np.linspace(0, len(distinct) - 1, _MOST_LAYERS).round().astype(int)
        note = f" {_MOST_LAYERS} of {len(distinct)} layers."
        distinct = [distinct[i] for i in kept]
    rows = []
    for target in dict.fromkeys(targets.tolist()):
        sites = [i for layer in distinct for i in np.flatnonzero((layers == layer) & (targets == target)).tolist()]
        rows += [sites[i : i + _COLUMNS] for i in range(0, len(sites), _COLUMNS)]
    return rows, note


@styled
def singular_spectra(run: Run) -> Plot | None:
    """Singular values of common, own and total adapters by layer and target; clients as thin lines."""
    values = {kind: run.spectra(kind) for kind in reversed(run.terms)}
    values = {kind: v for kind, v in values.items() if np.nanmax(v) > 0}
    if not values:
        return None
    if len(values) == 2:
        values.pop("total", None)  # it is the only term's
    rows, note = _panel_sites(run)
    columns = max(len(row) for row in rows)
    wide = columns > 2
    figure = canvas(0.75 + (1.35 if wide else 2.3) * len(rows), width=7.2 if wide else 2.6 + 2.2 * (columns - 1) + 0.8)
    grid = figure.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False)
    largest = max(np.nanmax(v) for v in values.values())
    floor = largest * (1e-14 if run.options.get("precision") == "fp64" or run.is_matrix else 1e-8)
    smallest = min(np.min(v[v > floor]) for v in values.values() if (v > floor).any())
    few = run.trained.sum() <= FEW_CLIENTS
    for r, row in enumerate(rows):
        for c in range(columns):
            axes = grid[r, c]
            if c >= len(row):
                axes.set_visible(False)
                continue
            for kind, v in values.items():
                _spectrum_lines(axes, v[row[c]] if kind == "common" else v[run.trained, row[c]], kind, floor, few)
            layer, target = int(run.data["layer"].values[row[c]]), run.data["site_target"].values[row[c]]
            axes.set_title(f"layer {layer}, {target}" if layer >= 0 else target, fontsize=7.5)
            axes.set_yscale("log")
            axes.set_ylim(smallest / 1.6, largest * 1.6)
            if largest > 20 * smallest:
                axes.yaxis.set_minor_formatter(NullFormatter())
            else:  # hardly a power of ten in sight
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.yaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    for c in range(columns):
        last = max(r for r, row in enumerate(rows) if c < len(row))
        grid[last, c].tick_params(labelbottom=True)
        grid[last, c].set_xlabel("index", fontsize=8)
    figure.supylabel("singular value", fontsize=9)
    order = [kind for kind in ("common", "client", "total") if kind in values]
    names = _term_names(run)
    legend_below(figure, {names[kind]: Line2D([], [], color=TERM[kind], linestyle=TERM_LINE[kind], linewidth=2)
                          for kind in order})
    each = "each client a thin line" if few else "median and 5th to 95th percentile over clients"
    return Plot("singular_spectra", f"Singular values of the scaled adapters after round {_round(run)}; "
                f"{'own and total' if run.adds else 'own'}: {each}.{note}{_alone_note(run)}", figure)


def _term_names(run: Run) -> dict[str, str]:
    """What legends call the terms."""
    return TERM_NAME if run.adds else TERM_NAME | ALONE


def _alone_note(run: Run) -> str:
    """What captions say where a client's pair is not added to the common one."""
    return "" if run.adds else ALONE_NOTE


def _round(run: Run) -> int:
    return int(run.data["spectrum"].values[-1])


def _spectrum_lines(axes, values: np.ndarray, kind: str, floor: float, few: bool) -> None:
    """values [k] of common, [client, k] of own and total; what is below the floor is not drawn."""
    x = np.arange(1, values.shape[-1] + 1)
    shown = np.where(values > floor, values, np.nan)
    dot = {"marker": "o", "markersize": 3} if len(x) == 1 else {}
    if kind == "common":
        axes.plot(x, shown, color=TERM[kind], linestyle=TERM_LINE[kind], linewidth=1.5, zorder=3, marker="o",
                  markersize=2.4)
    elif few:
        axes.plot(x, shown.T, color=TERM[kind], linewidth=0.7, alpha=0.75, zorder=2 if kind == "client" else 1, **dot)
    elif not np.isnan(shown).all(axis=0).any():
        axes.fill_between(x, *np.nanpercentile(shown, [5, 95], axis=0), color=TERM[kind], alpha=0.25, linewidth=0)
        axes.plot(x, np.nanmedian(shown, axis=0), color=TERM[kind], linewidth=1.3, **dot)
    else:
        axes.plot(x, np.median(np.nan_to_num(values), axis=0), color=TERM[kind], linewidth=1.3, **dot)


@styled
def ranks_by_round(groups: list[Configuration]) -> Plot | None:
    """Entropy and numerical rank over the spectra taken: by term for one configuration, of the total for several."""
    if all(g.first.data.sizes["spectrum"] < 2 for g in groups):
        return None
    one, first = len(groups) == 1, groups[0].first
    names = _term_names(first)
    styles = configuration_styles([g.first.algorithm for g in groups])
    figure, handles = canvas(3.0 + 0.12 * (0 if one else len(groups))), {}
    for axes, name in zip(figure.subplots(1, 2), _SHOWN):
        for group, look in zip(groups, styles):
            for kind in reversed(first.terms) if one else ("total",):
                data = group.first.data[f"{kind}_singular_values"]
                if not data.size or np.isnan(data.values).all():
                    continue
                by_site = ranks.MEASURES[name](data.values)  # [spectrum, (client,) site]
                by_client = by_site.mean(axis=-1)
                x = data["spectrum"].values
                width = 2.6 if one and kind == "total" else 1.5
                marked = {"marker": "o", "markersize": 2 + 0.9 * width} if len(x) <= FEW_POINTS else {}
                line = ({"color": TERM[kind], "linestyle": TERM_LINE[kind], "linewidth": width, **marked} if one
                        else look.curve(len(x)))
                middle = by_client
                if kind != "common":
                    chosen = by_client[:, group.first.trained]
                    axes.fill_between(x, chosen.min(axis=1), chosen.max(axis=1), color=line["color"], alpha=0.15, linewidth=0)
                    middle = chosen.mean(axis=1)
                (handles[names[kind] if one else group.label],) = axes.plot(x, middle, **line)
        axes.set_title(name)
        round_axis(axes)
        axes.set_ylim(bottom=0)
    if not handles:
        return None
    if one:
        handles = {name: handles[name] for name in names.values() if name in handles}
    legend_below(figure, handles)
    what = "of the scaled terms" if one else "of the total adapter (first seed)"
    note = _alone_note(first) if one else ""
    return Plot("ranks_by_round", f"Ranks {what} by round, mean over sites. Line: mean over clients; band: smallest to "
                f"largest client.{note}", figure)


def _relation(axes, x, y, x_label: str) -> None:
    """A scatter with Spearman's rho, its 95% interval and the number n of clients above it."""
    size = 22 if len(x) <= 100 else 7
    axes.scatter(x, y, s=size, color=GREEN, alpha=0.85 if len(x) <= 100 else 0.4, linewidths=0)
    rho, low, high, n = statistics.spearman(x, y)
    if np.isnan(rho):
        told = "too few distinct values"
    else:
        told = f"ρ = {rho:.2f}" + ("" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]")
    axes.set_title(f"{told}, n = {n}".replace("-", "−"), fontsize=8.5)
    axes.set_xlabel(x_label)
    positive = x[~np.isnan(x)]
    if x_label.startswith("training") and positive.size and positive.min() > 0 and positive.max() > 20 * positive.min():
        axes.set_xscale("log")
    axes.margins(0.08)


def _causes(run: Run) -> list[tuple[str, np.ndarray]]:
    """What a client's rank is held against: label entropy and number of examples, of the clients that train."""
    found = []
    for name, label in (("label_entropy", "label entropy of the client, nats"), ("train_examples", "training examples")):
        if (values := run.clients(name)) is not None:
            found.append((label, values[run.trained]))
    return found


def _varying(named: list[tuple[str, np.ndarray]]) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """What differs between clients by more than rounding, and 'name (value)' of what does not."""
    varying, same = [], []
    for name, values in named:
        known = values[~np.isnan(values)]
        if known.size and np.ptp(known) <= 1e-9 * np.abs(known).max():
            same.append(f"{name} ({known[0]:.4g})")
        else:
            varying.append((name, values))
    return varying, same


def relations(name: str, caption: str, effects: list[tuple[str, np.ndarray]],
              causes: list[tuple[str, np.ndarray]]) -> Plot | None:
    """A panel for each effect (rows) and cause (columns) that differ between clients; None where none is left."""
    causes, same_causes = _varying(causes)
    effects, same_effects = _varying(effects)
    if not causes or not effects:
        return None
    rows, columns = (len(effects), len(causes)) if len(causes) > 1 else (1, len(effects))
    figure = canvas(0.7 + 1.95 * rows, width=(6.4 if columns < 4 else 2.0 * columns) if columns > 1 else 3.7)
    grid = figure.subplots(rows, columns, sharey="row" if len(causes) > 1 else False, squeeze=False)
    pairs = [(effect, cause) for effect in effects for cause in causes]
    for i, (axes, ((effect, y), (cause, x))) in enumerate(zip(grid.ravel(), pairs)):
        _relation(axes, x, y, cause)
        if i % len(causes) == 0:
            axes.set_ylabel(effect)
    clients = max(statistics.spearman(x, y)[-1] for (_, y), (_, x) in pairs)
    caption += f" {clients} clients. Above: Spearman's ρ{' with its 95% interval' if clients >= statistics.FEWEST else ''}."
    if same_causes or same_effects:
        caption += f" Not drawn, being the same for every client: {', '.join(same_effects + same_causes)}."
    return Plot(name, caption, figure)


@styled
def rank_relations(run: Run) -> Plot | None:
    """Rank of each client's total adapter against its label entropy and number of examples."""
    measured = [(name, run.client_rank_measure(name)) for name in ("entropy rank", "energy rank (95%)")]
    if any(values is None for _, values in measured):
        return None
    caption = f"Effective rank of each client's total adapter after round {_round(run)}, mean over sites."
    return relations("rank_relations", caption, [(name, values[run.trained]) for name, values in measured], _causes(run))


@styled
def norm_ratio_relations(run: Run) -> Plot | None:
    """How much of a client's adapter is its own, against its label entropy and number of examples."""
    ratio = run.data["norm_ratio"]
    if not ratio.size:
        return None
    last = ratio.isel(spectrum=-1).values[run.trained]
    if np.isnan(last).all() or not np.nanmax(last) > 0:
        return None
    counts = (~np.isnan(last)).sum(axis=1)
    values = np.divide(np.nansum(last, axis=1), counts, out=np.full(len(last), np.nan), where=counts > 0)
    caption = (f"Norm of each client's own adapter over that of the common one after round {_round(run)}, mean over "
               "sites.")
    return relations("norm_ratio_relations", caption, [("‖s′ D C‖ / ‖s B A‖", values)], _causes(run))


@styled
def rank_bars(run: Run) -> Plot | None:
    """Numerical rank at 1e-2 of common, own and total adapter by client; a histogram with many clients."""
    total = run.client_rank_measure("numerical rank (1e-2)")
    if total is None:
        return None
    chosen = np.flatnonzero(run.trained)
    n = len(chosen)
    figure = canvas(2.9, width=max(4.0, min(7.2, 2.5 + 0.45 * n)) if n <= FEW_CLIENTS else 5.0)
    axes = figure.subplots()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if n > FEW_CLIENTS:
        values, counts = np.unique(total[chosen], return_counts=True)
        axes.bar(values, counts, 0.7 if np.allclose(values, values.round()) else 0.1, color=TERM["total"])
        axes.set_xlabel("numerical rank (1e-2) of the total")
        axes.set_ylabel("clients")
    else:
        series = {kind: run.client_rank_measure("numerical rank (1e-2)", kind) for kind in run.terms}
        width, x = 0.8 / len(series), np.arange(n)
        for i, (kind, v) in enumerate(series.items()):
            heights = np.full(n, v) if np.ndim(v) == 0 else v[chosen]
            axes.bar(x + (i - (len(series) - 1) / 2) * width, heights, 0.92 * width, color=TERM[kind])
        axes.set_xticks(x, [str(c) for c in chosen])
        axes.set_xlabel("client")
        axes.set_ylabel("numerical rank (1e-2)")
        legend_below(figure, {_term_names(run)[kind]: Patch(color=TERM[kind]) for kind in series})
    axes.grid(axis="x", visible=False)
    return Plot("rank_by_client", f"Numerical rank at 1e-2 of the largest singular value, after round {_round(run)}."
                + _alone_note(run), figure)
