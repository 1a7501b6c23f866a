import dataclasses
import json

import pytest
from page_reader import Page

from snnconvert.energy.profile import load_profile
from snnconvert.report.comparison import compare_reports
from snnconvert.report.comparison_text import comparison_markdown, comparison_page, comparison_text
from snnconvert.report.hardware import on_hardware
from snnconvert.report.schema import Metric


@pytest.fixture(scope="module")
def comparison(small_report, labelled_report):
    return compare_reports(small_report, labelled_report, ("small", "large"))


def by_name(differences):
    return {item.name: item for item in differences}


def test_totals_and_energies_are_the_two_reports(small_report, labelled_report, comparison):
    for item in comparison.totals:
        first, second = (getattr(report.totals, item.name) for report in (small_report, labelled_report))
        assert (item.first, item.second, item.difference) == (first, second, second - first)
        assert item.ratio == (second / first if first else None)
    for one, two in zip(small_report.energy.models, labelled_report.energy.models, strict=True):
        for item in comparison.energies[one.model]:
            assert (item.first, item.second) == (one.totals[item.name].total, two.totals[item.name].total)


def test_less_budget_is_better_and_more_fidelity_is(small_report, labelled_report, comparison):
    budget = by_name(comparison.totals)["bit_budget"]
    assert budget.first < budget.second
    assert budget.better == "first"
    sqnr = by_name(comparison.headline)["logit_sqnr_db"]
    assert sqnr.second > sqnr.first
    assert sqnr.better == "second"
    assert by_name(comparison.totals)["macs"].better is None
    assert by_name(comparison.energies["twin"])["ann_float32"].better is None


@pytest.mark.parametrize(
    ("shares", "images", "better"),
    [((0.9, 0.8), 1000, "first"), ((0.8, 0.9), 1000, "second"), ((0.9, 0.8), 20, None), ((0.9, 0.9), 1000, None)],
)
def test_accuracies_are_judged_by_their_intervals(labelled_report, shares, images, better):
    reports = [
        dataclasses.replace(labelled_report, metric=Metric("top1", 0.95, share, images, (-0.1, 0.1)))
        for share in shares
    ]
    item = by_name(compare_reports(*reports).headline)["accuracy"]
    assert item.better == better
    assert item.difference == pytest.approx(shares[1] - shares[0])


def test_layers_are_matched_by_name(small_report, labelled_report, comparison):
    names = [{layer.name for layer in report.layers} for report in (small_report, labelled_report)]
    assert set(comparison.only_first) == names[0] - names[1]
    assert set(comparison.only_second) == names[1] - names[0] == {"gate", "wide"}
    assert {item.name for item in comparison.layers} <= names[0] & names[1]
    mix = next(item for item in comparison.layers if item.name == "mix")
    figures = by_name(mix.figures)
    assert (figures["weight_bits"].first, figures["weight_bits"].second) == (3, 8)
    assert figures["energy_snn_serial_pj"].better == "first"
    assert all(item.first != item.second for item in mix.figures)


def test_a_report_against_itself_differs_in_nothing(small_report):
    same = compare_reports(small_report, small_report)
    assert same.layers == ()
    assert same.same_layers == len(small_report.layers)
    assert same.only_first == same.only_second == same.notes == ()
    groups = [same.headline, same.totals, *same.energies.values()]
    assert all(item.better is None and not item.difference for group in groups for item in group)
    assert "first is better at nothing" in comparison_text(same)
    assert "layer-table" not in Page(comparison_page(same)).tables


def test_other_hardware_is_said(small_report, labelled_report):
    there = on_hardware(labelled_report, load_profile("loihi"))
    assert any("can't be compared" in note for note in compare_reports(small_report, there).notes)


def test_every_format_tells_the_same(comparison):
    text, markdown, page = comparison_text(comparison), comparison_markdown(comparison), comparison_page(comparison)
    read = Page(page)
    rows = read.cells("layer-table")
    assert [row[0] for row in rows[1:]] == [item.name for item in comparison.layers]
    for row in rows[1:]:
        for cell in row:
            assert cell in text
            assert cell in markdown.replace("\\", "")
    for written in (text, markdown, " ".join(read.text.split())):
        assert "large is better at: Output SQNR" in written
        assert "Only in large: gate, wide." in written
    assert "http:" not in page
    assert "https:" not in page
    assert page == comparison_page(comparison)


def test_json_holds_everything(comparison):
    data = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert data["schema"] == "snnconvert.comparison/1"
    assert set(data["layers"]) == {item.name for item in comparison.layers}
    assert data["totals"][0]["name"] == "bit_budget"
    summary = comparison.summary()
    assert "layers" not in summary
    assert summary["different_layers"] == len(comparison.layers)
