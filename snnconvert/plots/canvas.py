"""Figures without global state: where matplotlib is imported, and how pictures are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snnconvert.artifact.atomic import replaced_file
from snnconvert.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE, LABEL, SMALL = 9.0, 8.5, 7.5
_DPI = 150
_FORMATS = ("png", "svg")


def new_figure(width: float = 6.0, height: float = 4.0) -> Figure:
    """An empty figure on a canvas of its own.

    Args:
        width: in inches.
        height: in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a picture, whole or not at all; one that is there is replaced.

    Args:
        figure: the picture.
        path: its file, .png or .svg; folders that are missing are made.

    Raises:
        InputError: if the ending is another one, or the file can't be written.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in _FORMATS:
        raise InputError(f"{target}: pictures are .png or .svg files")
    with replaced_file(target) as file:
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)


def show_ticks(axes: Axes, low: float, high: float) -> None:
    """Makes the x axis one of whole ticks, from the middle of one cell before ``low`` to that after ``high``."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(low - 0.5, high + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_xlabel("tick (time step of the network)", fontsize=LABEL)


def tidy(axes: Axes) -> None:
    """Small tick labels, and only the frame's sides that carry an axis."""
    axes.tick_params(labelsize=SMALL, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def percent(share: float) -> str:
    """A share with two digits: 0.42 %, 7.3 %, 43 %."""
    value = 100 * share
    digits = 0 if value >= 9.95 or value == 0 else 1 if value >= 0.995 else 2
    return f"{value:.{digits}f} %"
