"""Figures of the clients themselves: what each holds, and how those that never trained are reached by adaptation."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .figures import band_told, client_band
from .runs import AS_THEY_ARE, PERMUTED, Run, same_partition
from .style import BLUE, GREY, ORANGE, WIDTH, Plot, canvas, client_ticks, legend_below, names_height, score_axis, styled

_FEW_CLIENTS = 60  # up to here every client has a column of its own


def of_run(run: Run, shown: list[Run] = ()) -> list[Plot]:
    """The figures that a run's record gives, without the classes where a run that was shown has the same partition."""
    known = any(same_partition(run, other) for other in shown)
    return [plot for plot in (None if known else classes_by_client(run), unseen_clients(run)) if plot]


@styled
def classes_by_client(run: Run) -> Plot | None:
    """Share of each class among every client's training examples, as the client reads them; None of a single class."""
    if run.is_matrix or "train_class_counts" not in run.data or run.data.sizes["class"] < 2:
        return None
    counts = run.data["train_class_counts"].values.astype(float)  # [client, class]
    sizes = counts.sum(axis=1)
    shares = counts / np.where(sizes > 0, sizes, 1)[:, None]
    order = np.arange(len(shares))
    note = ""
    if len(shares) > _FEW_CLIENTS:
        order = np.linspace(0, len(shares) - 1, _FEW_CLIENTS).round().astype(int)
        note = f" {_FEW_CLIENTS} of {len(shares)} clients."
    names = [str(name) for name in run.data["class_name"].values]
    rows = len(names)
    clients = run.short_names[order]
    figure = canvas(0.9 + 0.17 * max(rows, 4) + 0.8 + names_height(clients),
                    width=min(WIDTH, max(4.0, 2.0 + 0.25 * len(order))))
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, max(1.5, 0.22 * rows)])
    permuted = run.permuted[order]
    bars = {AS_THEY_ARE: (GREY, ~permuted), PERMUTED: (ORANGE, permuted)}
    handles = {name: top.bar(np.flatnonzero(chosen), sizes[order][chosen], color=colour, width=0.8)
               for name, (colour, chosen) in bars.items() if chosen.any()}
    top.set_ylabel("examples", fontsize=8)
    top.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    top.grid(axis="x", visible=False)
    image = below.imshow(shares[order].T, aspect="auto", cmap="Blues", vmin=0, vmax=max(shares.max(), 1e-9),
                         interpolation="nearest")
    below.set_yticks(range(rows), names, fontsize=6 if rows > 12 else 8)
    client_ticks(below.xaxis, clients)
    below.tick_params(length=0)
    below.grid(visible=False)
    below.set_xlabel("client")
    figure.colorbar(image, ax=[top, below], format=PercentFormatter(xmax=1, decimals=0), shrink=0.7,
                    label="share of the client's examples")
    held_out = int(run.data["held_out"].values.sum())
    if held_out:
        note += f" The last {held_out} are held out of training."
    if "label_map" in run.data:
        note += " Classes as each client reads them: those in orange read them permuted."
        legend_below(figure, handles)
    return Plot("classes_by_client", f"Training examples by client, and their classes.{note}", figure)


@styled
def unseen_clients(run: Run) -> Plot | None:
    """The score after k local steps on a copy, of the clients that never trained beside those that did."""
    held_out = run.data["held_out"].values
    steps = run.adaptation_steps
    if run.is_matrix or not held_out.any() or not steps:
        return None
    measure = run.measure
    series = [run.score("personal")] + [run.score("adapted", step=i) for i in range(len(steps))]
    if any(values is None for values in series):
        return None
    values = np.array(series)  # [steps, client]
    x = np.array([0, *steps])
    figure = canvas(3.0, width=4.6)
    axes, handles = figure.subplots(), {}
    for (name, chosen), colour in zip((("held out of training", held_out), ("trained", ~held_out)), (BLUE, ORANGE)):
        if not chosen.any():
            continue
        mean = np.nanmean(values[:, chosen], axis=1)
        axes.fill_between(x, *client_band(values[:, chosen]), color=colour, alpha=0.15, linewidth=0)
        handles[name] = axes.plot(x, mean, color=colour, marker="o", markersize=4)[0]
    if run.majority is not None:
        handles["majority class, held out"] = axes.axhline(np.nanmean(run.majority[held_out]), color="black", linewidth=1,
                                                           linestyle=":")
    axes.set_xlabel("local steps of adaptation")
    axes.set_ylabel(measure.axis)
    score_axis(axes.yaxis, measure)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, handles)
    return Plot("unseen_clients",
                f"Mean {measure.name} over clients along adaptation; bands: "
                f"{band_told([int(held_out.sum()), int((~held_out).sum())])}.{measure.direction}", figure)
