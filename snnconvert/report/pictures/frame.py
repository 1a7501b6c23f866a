"""Figures of pages: small, with margins in inches, and a frame of as few lines as will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnconvert.report.pictures.colours import INK, LINE, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT = 8.0


def new_axes(width: float, height: float, margins: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    """A figure with one pair of axes.

    Args:
        width: in inches.
        height: in inches.
        margins: left, right, bottom and top, in inches.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    left, right, bottom, top = margins
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    place = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes: Axes = figure.add_axes(place)
    axes.set_facecolor("none")
    axes.tick_params(labelsize=TEXT, length=0, colors=MUTED, labelcolor=INK, pad=3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.set_axisbelow(True)
    return figure, axes


def few_ticks(axes: Axes, axis: str, count: int) -> None:
    """At most so many ticks on an axis, with a grid across."""
    from matplotlib.ticker import MaxNLocator

    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="x" if axis == "x" else "y", color=LINE, linewidth=0.6)
