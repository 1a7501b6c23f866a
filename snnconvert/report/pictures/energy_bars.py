"""Five networks side by side: what each takes by a model of energy, stacked by component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from snnconvert.energy.cost import Cost
from snnconvert.report.pictures.colours import COMPONENTS, INK
from snnconvert.report.pictures.frame import TEXT, few_ticks, new_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 3.45, 1.62
_MARGINS = (0.95, 0.62, 0.34, 0.04)
_BAR = 0.62


def energy_bars(costs: Mapping[str, Cost], labels: Mapping[str, str], divisor: float, unit: str) -> Figure:
    """One bar a network, the first one on top, with a text behind it.

    Args:
        costs: by the name that is written beside the bar.
        labels: the text, by the same name.
        divisor: what costs are divided by ...
        unit: ... to be in this unit.
    """
    figure, axes = new_axes(_WIDTH, _HEIGHT, _MARGINS)
    places = [-index for index in range(len(costs))]
    left = [0.0] * len(costs)
    for name, colour in COMPONENTS.items():
        widths = [getattr(cost, name) / divisor for cost in costs.values()]
        if any(widths):
            axes.barh(places, widths, left=left, height=_BAR, color=colour, linewidth=0)
            left = [start + width for start, width in zip(left, widths, strict=True)]
    for network, place, end in zip(costs, places, left, strict=True):
        axes.annotate(
            labels[network], (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=TEXT,
            color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, max(left, default=0) or 1)
    axes.set_ylim(0.5 - len(costs), 0.5)
    few_ticks(axes, "x", 4)
    axes.set_yticks(places, list(costs), fontsize=TEXT, color=INK)
    axes.set_xlabel(unit, fontsize=TEXT, color=INK, labelpad=2)
    return figure
