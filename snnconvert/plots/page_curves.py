"""Curves measured apart from a conversion, for its page: accuracy against bit budget, and against time."""

from __future__ import annotations

from collections.abc import Sequence

from snnconvert.allocation.pareto import ParetoPoint
from snnconvert.in_time import ACCURACY, AnytimeCurve
from snnconvert.plots.curves import accuracy_curve
from snnconvert.plots.pareto import pareto_curve
from snnconvert.report.pictures.svg import inline_svg
from snnconvert.report.view.numbers import ABSENT, decimal, percent, short
from snnconvert.report.view.parts import Cell, Column, Curve, Table


def search_curve(points: Sequence[ParetoPoint]) -> Curve:
    """Accuracy, or agreement with the ANN, against bit budget.

    Args:
        points: of ``snnconvert search``.

    Raises:
        InputError: if there are no points, or their decisions can't be compared.
    """
    labelled = points and points[0].metric is not None
    what = "Accuracy" if labelled else "Share of decisions that are the ANN's"
    heads = (
        Column("budget", "mean bit budget it may have"),
        Column("widths", "allocated layer by layer, or uniform b_w/b_s/T", text=True),
        Column("BB", "mean bit budget it has"),
        Column("accuracy"),
        Column("agreement", "share of decisions that are the ANN's"),
        Column("SQNR dB", "of the outputs"),
    )
    svg = inline_svg(pareto_curve(points), "search", f"{what} against mean bit budget")
    return Curve(
        title="Search",
        sentence=f"{what} against mean bit budget: widths allocated layer by layer beside uniform ones.",
        svg=svg,
        table=Table("points of the search", heads, tuple(map(_point, points))),
    )


def time_curve(curve: AnytimeCurve, ann_accuracy: float | None = None) -> Curve:
    """Accuracy, or agreement with the final decision, against the ticks one waits for an answer.

    Args:
        curve: of ``snnconvert simulate``.
        ann_accuracy: the original network's accuracy, 0..1.
    """
    what = "Agreement with the final decision" if curve.accuracy is None else curve.metric.replace(ACCURACY, "Accuracy")
    decided = "images" if curve.metric == ACCURACY else "pixels"
    heads = (Column("tick"), Column(curve.metric), Column("agreement", f"share of {decided} decided as in the end"))
    accuracy = [None] * len(curve.ticks) if curve.accuracy is None else list(curve.accuracy)
    rows = tuple(
        (Cell(str(tick)), Cell(percent(right, 2)), Cell(percent(same, 2)))
        for tick, right, same in zip(curve.ticks, accuracy, curve.agreement, strict=True)
    )
    svg = inline_svg(accuracy_curve(curve, ann_accuracy), "time", f"{what} against time")
    return Curve(
        title=f"{curve.metric.replace(ACCURACY, 'Accuracy')} in time",
        sentence=f"{what} of {curve.images:,} images when the answer is read out early, tick by tick.",
        svg=svg,
        table=Table("points in time", heads, rows),
    )


def _point(point: ParetoPoint) -> tuple[Cell, ...]:
    return (
        Cell(short(point.budget)),
        Cell(point.setting or "allocated"),
        Cell(short(point.bit_budget)),
        Cell(ABSENT if point.metric is None else percent(point.metric.snn, 2)),
        Cell(percent(point.top1_agreement, 2)),
        Cell(decimal(point.logit_sqnr_db, 1)),
    )
