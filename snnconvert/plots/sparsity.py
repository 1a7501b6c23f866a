"""Accuracy and energy against the sparsity of spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from snnconvert.errors import InputError
from snnconvert.palette import BLUE, GREEN, GREY, ORANGE
from snnconvert.plots.anytime import wilson_interval
from snnconvert.plots.canvas import LABEL, SMALL, TITLE, new_figure, tidy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (ORANGE, GREEN, GREY)


@dataclass(frozen=True)
class SparsityPoint:
    """One network.

    Attributes:
        sparsity: share of bits that are 0.
        accuracy: share of images that are right.
        images: how many were judged.
        energy: its energy as a multiple of others', by what is compared.
        label: beside the point; may be empty.
    """

    sparsity: float
    accuracy: float
    images: int
    energy: Mapping[str, float]
    label: str = ""


def sparsity_curve(points: Sequence[SparsityPoint], name: str = "") -> Figure:
    """Accuracy with 95 % Wilson intervals, and below it energy ratios with break-even at 1, against sparsity.

    Args:
        points: in any order; all with the same comparisons of energy.
        name: the network's, for the title.

    Raises:
        InputError: if there are no points, or they compare different things.
    """
    if not points or any(point.energy.keys() != points[0].energy.keys() for point in points):
        raise InputError("a curve of sparsity needs points that all compare the same energies")
    shown = sorted(points, key=lambda point: point.sparsity)
    figure = new_figure(6.4, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _show_accuracy(upper, shown)
    _show_energy(lower, shown)
    for axes in (upper, lower):
        axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.margins(x=0.08)
        tidy(axes)
    lower.set_xlabel("sparsity: bits that are 0 (%)", fontsize=LABEL)
    what = f"{name}: " if name else ""
    upper.set_title(f"{what}{points[0].images:,} images, bars: 95 % interval", fontsize=TITLE, loc="left")
    return figure


def _show_accuracy(axes: Axes, points: Sequence[SparsityPoint]) -> None:
    shares = [100 * point.accuracy for point in points]
    intervals = [wilson_interval(point.accuracy, point.images) for point in points]
    below = [max(share - 100 * low, 0.0) for share, (low, _) in zip(shares, intervals, strict=True)]
    above = [max(100 * high - share, 0.0) for share, (_, high) in zip(shares, intervals, strict=True)]
    places = [100 * point.sparsity for point in points]
    axes.errorbar(
        places, shares, yerr=[below, above], color=BLUE, marker="o", markersize=4, linewidth=1.4, elinewidth=0.9,
        capsize=2,
    )  # fmt: skip
    for place, share, point in zip(places, shares, points, strict=True):
        axes.annotate(
            point.label, (place, share), xytext=(4, 5), textcoords="offset points", fontsize=SMALL - 1, color=BLUE
        )
    axes.set_ylabel("accuracy (%)", fontsize=LABEL)


def _show_energy(axes: Axes, points: Sequence[SparsityPoint]) -> None:
    places = [100 * point.sparsity for point in points]
    for index, what in enumerate(points[0].energy):
        colour = _COLOURS[index % len(_COLOURS)]
        ratios = [point.energy[what] for point in points]
        axes.plot(places, ratios, color=colour, marker="s", markersize=4, linewidth=1.4, label=what)
    axes.axhline(1, color=GREY, linestyle=":", linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("energy of the spiking network / of …", fontsize=LABEL)
    axes.legend(fontsize=SMALL, frameon=False)
