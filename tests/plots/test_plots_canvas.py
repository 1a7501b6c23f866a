import subprocess
import sys

import pytest

from snnconvert.errors import InputError
from snnconvert.plots.canvas import new_figure, percent, save_figure
from snnconvert.plots.rates import rate_histogram
from snnconvert.report.text import shortened

SCRIPT = """
import sys
import snnconvert.plots.anytime, snnconvert.plots.curves, snnconvert.plots.raster, snnconvert.plots.rates
assert "matplotlib" not in sys.modules
curve = snnconvert.plots.curves.AnytimeCurve((0, 1), (0.5, 0.6), (0.9, 1.0), 10)
snnconvert.plots.curves.accuracy_curve(curve).canvas.draw()
assert "matplotlib.pyplot" not in sys.modules
"""


def test_matplotlib_is_imported_late_and_pyplot_never():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("deep/er/b.svg", b"<?xml")])
def test_pictures_are_written_whole(simulations, tmp_path, name, start):
    path = tmp_path / name
    for _ in range(2):
        save_figure(rate_histogram(simulations["if"]), path)
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_picture_that_can_not_be_written_leaves_nothing(simulations, tmp_path):
    figure = rate_histogram(simulations["if"])
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        save_figure(figure, tmp_path / "a.pdf")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"folder\.png is a folder"):
        save_figure(figure, tmp_path / "folder.png")
    with pytest.raises(InputError, match="can't be written"):
        save_figure(figure, tmp_path / "file" / "a.png")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.png"]


def test_figures_are_six_by_four_inches():
    assert tuple(new_figure().get_size_inches()) == (6, 4)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("block1.relu", "block1.relu"),
        ("encoder.layers.3.mlp.relu", "e.l.3.mlp.relu"),
        ("features.12.conv.1", "f.12.conv.1"),
        ("a_name_without_any_dots", "…without_any_dots"),
    ],
)
def test_names_keep_their_numbers_and_ends(name, short):
    assert shortened(name, 17) == short


def test_percentages_have_two_digits():
    assert [percent(share) for share in (0, 0.0042, 0.073, 0.43, 1)] == ["0 %", "0.42 %", "7.3 %", "43 %", "100 %"]
