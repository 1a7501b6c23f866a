import pytest

from snnconvert.errors import InputError
from snnconvert.plots.sparsity import SparsityPoint, sparsity_curve

POINTS = [
    SparsityPoint(0.95, 0.85, 1000, {"ANN": 0.7, "twin": 1.2}, "sparse"),
    SparsityPoint(0.85, 0.90, 1000, {"ANN": 1.7, "twin": 2.2}),
]


def test_accuracy_and_energy_are_drawn_in_the_order_of_sparsity():
    upper, lower = sparsity_curve(POINTS, "net").axes
    assert upper.lines[0].get_xydata().tolist() == [[85.0, 90.0], [95.0, 85.0]]
    curves = {line.get_label(): line.get_ydata() for line in lower.lines}
    assert list(curves["ANN"]) == [1.7, 0.7]
    assert list(curves["twin"]) == [2.2, 1.2]
    assert [text.get_text() for text in upper.texts] == ["", "sparse"]


@pytest.mark.parametrize("points", [[], [POINTS[0], SparsityPoint(0.9, 0.9, 10, {"ANN": 1.0})]])
def test_points_that_compare_different_things_are_refused(points):
    with pytest.raises(InputError, match="same energies"):
        sparsity_curve(points)
