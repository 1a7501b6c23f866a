"""Curves over time: accuracy against the ticks one waits for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnconvert.in_time import ACCURACY, AnytimeCurve
from snnconvert.palette import BLUE, GREY, ORANGE
from snnconvert.plots.anytime import wilson_interval
from snnconvert.plots.canvas import LABEL, SMALL, TITLE, new_figure, show_ticks, tidy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_MARKERS = 40


def accuracy_curve(points: AnytimeCurve, ann_accuracy: float | None = None) -> Figure:
    """Accuracy at every tick of the readout with its 95 % Wilson interval, and agreement with the final decision.

    Without labels agreement alone is shown, with its own interval. MIoU and mAP, which are no shares of images, have
    none.

    Args:
        points: of :func:`~snnconvert.plots.anytime.anytime_accuracy`.
        ann_accuracy: the original network's accuracy, 0..1, drawn as a line.
    """
    figure = new_figure()
    axes: Axes = figure.subplots()
    ticks = points.ticks
    if points.accuracy is None:
        _show_shares(axes, points, points.agreement, "agreement with final decision")
        title = f"Anytime agreement on {points.images:,} images, answer complete at tick {ticks[-1]}"
    else:
        agreement = [100 * share for share in points.agreement]
        axes.plot(ticks, agreement, color=ORANGE, linestyle="--", linewidth=1.2, label="agreement with final decision")
        _show_shares(axes, points, points.accuracy, f"{points.metric} of the SNN")
        last = f"{100 * points.accuracy[-1]:.1f} % on {points.images:,} images at tick {ticks[-1]}"
        title = f"Anytime {points.metric}: {last}"
    if ann_accuracy is not None:
        label = f"{points.metric} of the ANN, {100 * ann_accuracy:.1f} %"
        axes.axhline(100 * ann_accuracy, color=GREY, linestyle=":", linewidth=1.4, label=label)
    show_ticks(axes, ticks[0], ticks[-1])
    axes.set_ylabel("share of images (%)" if points.metric == ACCURACY else "%", fontsize=LABEL)
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    tidy(axes)
    figure.legend(fontsize=SMALL, frameon=False, loc="outside lower center", ncols=2)
    axes.set_title(title, fontsize=TITLE, loc="left")
    return figure


def _show_shares(axes: Axes, points: AnytimeCurve, shares: Sequence[float], label: str) -> None:
    """A line with markers while there are few, on the band of its intervals where it shows shares of images."""
    if points.metric == ACCURACY:
        intervals = [wilson_interval(share, points.images) for share in shares]
        low, high = [100 * lower for lower, _ in intervals], [100 * upper for _, upper in intervals]
        axes.fill_between(points.ticks, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")
    marker = "o" if len(points.ticks) <= _MOST_MARKERS else ""
    values = [100 * share for share in shares]
    axes.plot(points.ticks, values, color=BLUE, marker=marker, markersize=3.5, label=label)
