import re
from xml.etree import ElementTree

import pytest

from snnconvert.energy.cost import Cost
from snnconvert.report.pictures.energy_bars import energy_bars
from snnconvert.report.pictures.layer_bars import stacked_bars, value_bars
from snnconvert.report.pictures.svg import inline_svg

COSTS = {"first": Cost(compute=1e6, weights=3e6), "second": Cost(compute=2e6, movement=0.5e6)}


def heights(svg, colour):
    """Heights of the bars of a colour, as numbers of points."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: var\(--{colour}\)', svg)
    return [
        max(ys) - min(ys) for ys in ([float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in found)
    ]


def test_text_stays_text_and_the_picture_is_well_formed():
    svg = inline_svg(energy_bars(COSTS, {"first": "4×", "second": "2.5×"}, 1e6, "µJ"), "bars", 'said "so" <b>')
    root = ElementTree.fromstring(svg)
    texts = ["".join(item.itertext()) for item in root.iter("text")]
    assert {"first", "second", "4×", "2.5×", "µJ"} <= set(texts)
    assert root.get("aria-label") == 'said "so" <b>'
    assert root.get("role") == "img"
    assert not list(root.iter("style")) + list(root.iter("metadata"))


def test_the_same_picture_gives_the_same_text_and_other_names_other_ids():
    def drawn(name):
        return inline_svg(value_bars([1.0, 2.0], "dB"), name, "label")

    assert drawn("a") == drawn("a")
    ids = [set(re.findall(r'id="([^"]*)"', drawn(name))) for name in ("a", "b")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_bars_are_as_high_as_their_values():
    svg = inline_svg(value_bars([1.0, None, 4.0], "dB"), "bars", "label")
    low, none, high = heights(svg, "accent")
    assert none == 0
    assert high == pytest.approx(4 * low, rel=1e-3)


def test_stacks_add_up():
    svg = inline_svg(stacked_bars(list(COSTS.values()), [2e6, 1e6], 1e6, "µJ"), "stack", "label")
    compute, weights, movement = (heights(svg, f"c-{name}") for name in ("compute", "weights", "movement"))
    unit = compute[0]
    assert compute[1] == pytest.approx(2 * unit, rel=1e-3)
    assert weights == pytest.approx([3 * unit, 0], abs=1e-3 * unit)
    assert movement == pytest.approx([0, 0.5 * unit], rel=2e-3, abs=1e-3 * unit)


def test_tips_name_the_bars_and_are_escaped():
    tips = {"tip-0": "<script>", "tip-1": "two & two"}
    root = ElementTree.fromstring(inline_svg(value_bars([1.0, 2.0], "%"), "bars", "label", tips))
    assert [item.text for item in root.iter("title")] == ["<script>", "two & two"]


def test_wide_networks_get_wide_pictures_up_to_a_limit():
    widths = [value_bars([1.0] * layers, "%").get_size_inches()[0] for layers in (1, 54, 1000)]
    assert widths[0] < widths[1] < widths[2] <= 10
