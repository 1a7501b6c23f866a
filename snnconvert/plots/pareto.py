"""The curve of accuracy against bit budget: mixed widths against uniform ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnconvert.errors import InputError
from snnconvert.palette import BLUE, GREY, ORANGE
from snnconvert.plots.anytime import wilson_interval
from snnconvert.plots.canvas import LABEL, SMALL, TITLE, new_figure, tidy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from snnconvert.allocation.pareto import ParetoPoint

_LOOKS = {"mixed": (BLUE, "o", "mixed, layer by layer"), "uniform": (ORANGE, "s", "uniform")}


def pareto_curve(points: Sequence[ParetoPoint], name: str = "") -> Figure:
    """Accuracy against mean bit budget on a logarithmic axis, with 95 % Wilson intervals and the ANN as a line.

    Without labels the share of decisions that are the ANN's takes the place of accuracy.

    Args:
        points: of :func:`~snnconvert.allocation.pareto.trace_pareto`.
        name: the network's, for the title.

    Raises:
        InputError: if there are no points, or their decisions can't be compared.
    """
    if not points or any(_share(point) is None for point in points):
        raise InputError("there are no points with decisions to draw")
    figure = new_figure(6.4, 4.2)
    axes: Axes = figure.subplots()
    metric = points[0].metric
    if metric is not None:
        label = f"ANN, {100 * metric.ann:.1f} %"
        axes.axhline(100 * metric.ann, color=GREY, linestyle=":", linewidth=1.4, label=label)
    for kind in _LOOKS:
        _show(axes, [point for point in points if point.kind == kind], kind)
    axes.set_xscale("log", base=2)
    axes.margins(x=0.1)
    _name_budgets(axes, points)
    axes.set_ylabel("accuracy (%)" if metric is not None else "decisions that are the ANN's (%)", fontsize=LABEL)
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    tidy(axes)
    axes.legend(fontsize=SMALL, frameon=False, loc="lower right")
    what = f"{name}: " if name else ""
    axes.set_title(f"{what}{points[0].images:,} images, bars: 95 % interval", fontsize=TITLE, loc="left")
    return figure


def _share(point: ParetoPoint) -> float | None:
    return point.top1_agreement if point.metric is None else point.metric.snn


def _show(axes: Axes, points: Sequence[ParetoPoint], kind: str) -> None:
    colour, marker, label = _LOOKS[kind]
    shown = sorted({(point.bit_budget, _share(point) or 0.0, point.images, point.setting) for point in points})
    if not shown:
        return
    budgets, shares = [item[0] for item in shown], [100 * item[1] for item in shown]
    intervals = [wilson_interval(share, images) for _, share, images, _ in shown]
    below = [max(share - 100 * low, 0.0) for share, (low, _) in zip(shares, intervals, strict=True)]
    above = [max(100 * high - share, 0.0) for share, (_, high) in zip(shares, intervals, strict=True)]
    axes.errorbar(
        budgets, shares, yerr=[below, above], color=colour, marker=marker, markersize=4, linewidth=1.4,
        elinewidth=0.9, capsize=2, label=label,
    )  # fmt: skip
    for budget, share, (_, _, _, setting) in zip(budgets, shares, shown, strict=True):
        if setting:
            axes.annotate(
                setting,
                (budget, share),
                xytext=(-4, -9),
                textcoords="offset points",
                ha="right",
                fontsize=SMALL - 1,
                color=colour,
            )


def _name_budgets(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    named = sorted({point.budget for point in points})
    axes.xaxis.set_major_locator(FixedLocator(named))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(named, [f"{budget:g}" for budget in named])
    axes.set_xlabel("mean bit budget b_w·b_s·T, weighted by multiply-accumulates", fontsize=LABEL)
