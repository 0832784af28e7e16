"""python -m analysis.example RUN FILE.png: score by client and singular spectra of a run, side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np

from . import figures, spectra
from .runs import group, read
from .style import Plot

_DPI, _GAP = 135, 24  # pixels an inch, and between the two


def draw(directory, file) -> Path:
    """Writes the picture of a run with two levels, the same bytes for the same results. Throws FormatError, OSError."""
    (configuration,) = group(read([directory]))
    plots = [figures.score_by_client([configuration]), spectra.singular_spectra(configuration.first)]
    pictures = [_pixels(plot) for plot in plots]
    height, width = max(p.shape[0] for p in pictures), sum(p.shape[1] for p in pictures) + _GAP
    sheet, left = np.full((height, width, 3), 255, dtype=np.uint8), 0
    for picture in pictures:
        top = (height - picture.shape[0]) // 2
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    matplotlib.image.imsave(file, sheet, metadata={"Software": None})
    return Path(file)


def _pixels(plot: Plot) -> np.ndarray:
    plot.figure.set_dpi(_DPI)
    plot.figure.canvas.draw()
    return np.asarray(plot.figure.canvas.buffer_rgba())[..., :3]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m analysis.example RUN FILE.png")
    print(draw(*sys.argv[1:]))
