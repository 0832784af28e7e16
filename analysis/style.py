"""The look of every figure: colour-blind safe colours (Okabe and Ito), one a method; sizes for print; saving."""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .measure import Measure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, YELLOW, GREY = "#56B4E9", "#D55E00", "#B8A800", "#6B6B6B"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, YELLOW, GREY)

ADAPTED = "adapted by local steps"  # in legends, of models that are shown beside those that are deployed
MEASURE = {"personal": BLUE, "common": ORANGE, "adapted": GREEN, "majority": GREY}
TERM = {"common": ORANGE, "client": BLUE, "total": GREEN}
TERM_NAME = {"common": "common, s B A", "client": "own, s′ D C", "total": "total"}
ALONE = {"client": "own pair, alone"}  # of TERM_NAME, where it is not added to the common one
TERM_LINE = {"common": (0, (3.2, 1.6)), "client": "-", "total": "-"}  # drawn last, common lets the others show through
PHASE = {"train": BLUE, "move": PINK, "all_reduce": ORANGE, "evaluate": GREEN, "spectra": SKY, "write": GREY}
METHOD = {
    "pf2lora": BLUE, "homlora": ORANGE, "local": GREEN, "hetlora": PINK, "fedit": VERMILION, "per-fedavg": SKY,
    "centralized": GREY, "ditto": YELLOW, "fedfmsl": PINK, "fedfmsl-site": PINK, "prompt": SKY, "prefix": VERMILION,
    "ffa-lora": VERMILION, "rolora": YELLOW, "fedsa-lora": GREEN, "flora": PINK, "flexlora": SKY, "fedex-lora": GREY,
    "fedper": ORANGE, "fedrep": GREEN, "feddpa-f": BLUE, "feddpa-t": SKY,
}
LINES = ("-", (0, (5, 2)), (0, (1.2, 1.5)), (0, (5, 1.5, 1, 1.5)))
MARKERS = "osD^vP*X"
FEW_POINTS = 25  # up to here every point of a curve has a marker
WIDTH = 7.2  # inches: two columns of a journal page
_LEVEL_NAME = 5  # characters of a client's name up to which it stands level below an axis
_EMBED_LIMIT = 900_000  # bytes of SVG; heavier figures are embedded as PNG

_RC = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.linewidth": 0.7,
    "lines.linewidth": 1.5, "legend.frameon": False, "figure.dpi": 100, "savefig.dpi": 200, "pdf.fonttype": 42,
    "svg.fonttype": "path", "svg.hashsalt": "pf2lora", "axes.titlelocation": "left",
    "axes.titley": 1.0,  # nothing stands above axes that a title had to clear at every drawing
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7, "text.hinting": "none",  # hinted text is laid out narrower than it is saved
    "axes.formatter.useoffset": False, "axes.unicode_minus": True,
}


@dataclass
class Plot:
    """A figure, the name of its files, and the caption that says how to read it."""

    name: str
    caption: str
    figure: Figure

    def save(self, directory: Path) -> list[Path]:
        """Writes directory/name.png and .pdf, the same bytes for the same data; returns the paths."""
        paths = [directory / f"{self.name}{suffix}" for suffix in (".png", ".pdf")]
        self._settle()
        with matplotlib.rc_context(_RC):
            self.figure.savefig(paths[0], metadata={"Software": None})
            self.figure.savefig(paths[1], metadata={"CreationDate": None})
        return paths

    def data_uri(self) -> str:
        """The figure as a data URI: SVG, or PNG where the SVG would be heavy."""
        self._settle()
        with matplotlib.rc_context(_RC):
            buffer = io.BytesIO()
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
            kind, content = "svg+xml", buffer.getvalue()
            if len(content) > _EMBED_LIMIT:
                buffer = io.BytesIO()
                self.figure.savefig(buffer, format="png", dpi=180, metadata={"Software": None})
                kind, content = "png", buffer.getvalue()
        return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

    def _settle(self) -> None:
        """Makes room for all parts once; otherwise every form of the figure would be laid out, and drawn, twice."""
        if isinstance(self.figure.get_layout_engine(), ConstrainedLayoutEngine):
            with matplotlib.rc_context(_RC):
                self.figure.draw_without_rendering()
            self.figure.set_layout_engine(None)  # "none" leaves a placeholder, for which each form is drawn twice


def styled(function):
    """Runs a function that draws under the common look."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with matplotlib.rc_context(_RC):
            return function(*args, **kwargs)

    return wrapped


def canvas(height: float, width: float = WIDTH) -> Figure:
    """An empty figure in inches whose parts make room for each other."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def score_axis(axis, measure: Measure) -> None:
    """Numbers of an axis of scores: with percent signs where they are percents."""
    if measure.percent:
        axis.set_major_formatter(PercentFormatter(decimals=0))


def round_axis(axes) -> None:
    """Rounds along the x-axis."""
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def names_height(names) -> float:
    """Inches that names of clients take below an axis beyond what their numbers alone would."""
    longest = max(map(len, names), default=0)
    return 0.05 * longest if longest > _LEVEL_NAME else 0.0


def client_ticks(axis, names) -> None:
    """Names of clients at 0, 1, ... of an x-axis, level where they are numbers that have room, else upright or slanted."""
    size, turned = 8 if len(names) <= 20 else 6, {}
    if names_height(names):
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    elif len(names) and 0.7 * size * max(map(len, names)) > (slot := _slot(axis.axes, len(names))):
        turned, size = {"rotation": 90}, min(size, 0.9 * slot)
    axis.set_ticks(range(len(names)), names, fontsize=size, **turned)


def _slot(axes, count: int) -> float:
    """Points of width that each of `count` ticks has, about: margins of a panel take a seventh."""
    spec = axes.get_subplotspec()
    share = len(spec.colspan) / spec.get_gridspec().ncols if spec else 1
    return 72 * axes.figure.get_figwidth() * share * 6 / 7 / count


def legend_below(figure: Figure, handles: dict, columns: int | None = None) -> None:
    """One legend under all panels for {label: handle}, as many columns as fit."""
    if not handles:
        return
    longest = max(len(label) for label in handles)
    fit = max(1, int(figure.get_figwidth() / (0.068 * longest + 0.42)))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center",
                  ncols=min(columns or len(handles), fit, len(handles)))


class Look(NamedTuple):
    """How a configuration is drawn."""

    colour: tuple
    line: object
    marker: str

    def curve(self, points: int, **further) -> dict:
        """Arguments of a line of so many points; markers are hollow, so that a curve underneath shows through."""
        every = 1 if points <= FEW_POINTS else -(-points // 10)
        return {"color": self.colour, "linestyle": self.line, "marker": self.marker, "markersize": 4.5,
                "markerfacecolor": "none", "markevery": every, **further}


def configuration_styles(algorithms: list[str]) -> list[Look]:
    """The look of each configuration: a method keeps its colour, its variants differ in shade.

    Line and marker differ from one configuration to the next: curves that coincide are both seen.
    """
    bases: dict[str, str] = {}
    for algorithm in dict.fromkeys(algorithms):
        wanted = METHOD.get(algorithm, PALETTE[len(bases) % len(PALETTE)])
        free = [colour for colour in PALETTE if colour not in bases.values()]
        bases[algorithm] = wanted if wanted in free or not free else free[0]
    seen: dict[str, int] = {}
    styles = []
    for place, algorithm in enumerate(algorithms):
        variant = seen[algorithm] = seen.get(algorithm, -1) + 1
        styles.append(Look(_shade(bases[algorithm], variant), LINES[place % len(LINES)],
                           MARKERS[place % len(MARKERS)]))
    return styles


def _shade(colour: str, variant: int) -> tuple:
    """The colour itself, then darker and lighter ones in turn."""
    step = (variant + 1) // 2
    amount = min(0.75, 0.35 * step)
    target = (0.0, 0.0, 0.0) if variant % 2 else (1.0, 1.0, 1.0)
    return tuple((1 - amount) * c + amount * t for c, t in zip(to_rgb(colour), target)) if variant else to_rgb(colour)
