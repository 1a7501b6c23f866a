import dataclasses

import pytest

from snnconvert.allocation.pareto import ParetoPoint
from snnconvert.errors import InputError
from snnconvert.plots.canvas import save_figure
from snnconvert.plots.pareto import pareto_curve
from snnconvert.report.schema import Metric


def point(budget, kind, snn, setting=""):
    metric = Metric("top1", 0.92, snn, 1000, (-0.1, 0.0))
    return ParetoPoint(budget, kind, setting, budget * 0.98, 1000, metric, 0.9, 20.0, 0.01, {})


POINTS = [
    point(16.0, "mixed", 0.91), point(16.0, "uniform", 0.9, "4/1/4"),
    point(8.0, "mixed", 0.88), point(8.0, "uniform", 0.77, "4/1/2"),
]  # fmt: skip


def test_both_curves_and_the_ann_are_drawn_with_their_intervals(tmp_path):
    figure = pareto_curve(POINTS, "net")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    drawn = {container.get_label(): container for container in axes.containers}
    mixed, uniform = drawn["mixed, layer by layer"], drawn["uniform"]
    assert list(mixed.lines[0].get_xdata()) == pytest.approx([7.84, 15.68])
    assert list(mixed.lines[0].get_ydata()) == pytest.approx([88, 91])
    assert list(uniform.lines[0].get_ydata()) == pytest.approx([77, 90])
    (bars,) = uniform.lines[2]
    low, high = bars.get_segments()[0][:, 1]
    assert low == pytest.approx(74.29, abs=0.05)  # Wilson, 770 of 1,000
    assert high == pytest.approx(79.50, abs=0.05)
    assert {text.get_text() for text in axes.texts} == {"4/1/4", "4/1/2"}
    assert "ANN, 92.0 %" in [line.get_label() for line in axes.lines]
    assert "accuracy" in axes.get_ylabel()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "16"]
    save_figure(figure, tmp_path / "pareto.png")


def test_without_labels_agreement_is_drawn():
    figure = pareto_curve([dataclasses.replace(item, metric=None) for item in POINTS])
    (axes,) = figure.axes
    assert "ANN's" in axes.get_ylabel()
    assert list(axes.containers[0].lines[0].get_ydata()) == pytest.approx([90, 90])


def test_points_without_decisions_cannot_be_drawn():
    nothing = [dataclasses.replace(item, metric=None, top1_agreement=None) for item in POINTS]
    for points in ([], nothing):
        with pytest.raises(InputError):
            pareto_curve(points)
