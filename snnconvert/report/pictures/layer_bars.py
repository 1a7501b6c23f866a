"""Bars over the layers of a network, in its order: one value each, or a stack of components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snnconvert.energy.cost import Cost
from snnconvert.report.pictures.colours import ACCENT, COMPONENTS, INK, SECOND
from snnconvert.report.pictures.frame import TEXT, few_ticks, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARGINS = (0.5, 0.16, 0.36, 0.08)
_HEIGHT = 1.75
_NARROWEST, _WIDEST, _EACH = 3.45, 10.0, 0.1
_BAR = 0.74


def value_bars(values: Sequence[float | None], unit: str, *, most: float | None = None) -> Figure:
    """One bar a layer, none where there is no value; bars have the gids "tip-0" and so on.

    Args:
        values: in the order of the layers.
        unit: label of the axis.
        most: where the axis ends, if not at the largest value.
    """
    figure, axes = _axes(len(values), unit)
    shown = [0.0 if value is None else value for value in values]
    for index, bar in enumerate(axes.bar(range(1, len(shown) + 1), shown, width=_BAR, color=ACCENT, linewidth=0)):
        bar.set_gid(f"tip-{index}")
    if most is not None:
        axes.set_ylim(0, most)
    return figure


def stacked_bars(costs: Sequence[Cost], rivals: Sequence[float], divisor: float, unit: str) -> Figure:
    """A stack a layer, with a rival's total as a line across it; stacks have the gids "tip-0" and so on.

    Args:
        costs: in the order of the layers.
        rivals: the rival's totals.
        divisor: what costs are divided by ...
        unit: ... to be in this unit.
    """
    figure, axes = _axes(len(costs), unit)
    places = range(1, len(costs) + 1)
    bottom = [0.0] * len(costs)
    for name, colour in COMPONENTS.items():
        heights = [getattr(cost, name) / divisor for cost in costs]
        axes.bar(places, heights, bottom=bottom, width=_BAR, color=colour, linewidth=0)
        bottom = [start + height for start, height in zip(bottom, heights, strict=True)]
    lines = [value / divisor for value in rivals]
    axes.hlines(lines, [place - 0.5 for place in places], [place + 0.5 for place in places], color=INK, linewidth=1.4)
    for index, (place, top) in enumerate(zip(places, bottom, strict=True)):
        cover = axes.bar([place], [max(top, lines[index])], width=1.0, color=SECOND, alpha=0.0, linewidth=0)
        cover[0].set_gid(f"tip-{index}")
    axes.set_ylim(0, 1.05 * max([*bottom, *lines], default=1.0) or 1.0)
    return figure


def _axes(layers: int, unit: str) -> tuple[Figure, Axes]:
    from matplotlib.ticker import MaxNLocator

    width = min(max(_NARROWEST, _EACH * layers + _MARGINS[0] + _MARGINS[1]), _WIDEST)
    figure, axes = new_axes(width, _HEIGHT, _MARGINS)
    axes.set_xlim(0.4, layers + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    few_ticks(axes, "y", 4)
    axes.set_xlabel("layer #", fontsize=TEXT, color=INK, labelpad=2)
    axes.set_ylabel(unit, fontsize=TEXT, color=INK, labelpad=4)
    return figure, axes
