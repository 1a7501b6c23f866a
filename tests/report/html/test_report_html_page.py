import base64
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from page_reader import Page, number

from snnconvert.allocation.pareto import ParetoPoint
from snnconvert.errors import InputError, SnnConvertError
from snnconvert.in_time import AnytimeCurve
from snnconvert.plots.page_curves import search_curve, time_curve
from snnconvert.report.html.page import report_page
from snnconvert.report.report import Report

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)> $\\frac{a'


@pytest.fixture(scope="module")
def page(small_report):
    return Page(report_page(small_report))


def saved(report):
    """A report as report.json holds it."""
    return json.loads(json.dumps(report.to_dict()))


def test_every_layer_has_a_row_with_its_figures(small_report, page):
    report = saved(small_report)
    twin = next(model for model in report["energy"]["models"] if model["model"] == "twin")
    head, *rows = page.tables["layer-table"]
    assert [cell["text"].strip() for cell in head][:5] == ["#", "layer", "operator", "b_w/b_s/T", "BB"]
    assert len(rows) == len(report["layers"]) == 3
    for place, (row, layer) in enumerate(zip(rows, report["layers"], strict=True), 1):
        texts = [cell["text"] for cell in row]
        assert texts[:4] == [
            str(place), layer["name"], layer["op"], f"{layer['weight_bits']}/{layer['spike_bits']}/{layer['T']}"
        ]  # fmt: skip
        energies = twin["layers"][layer["name"]]
        serial, rival = energies["snn_serial"], energies["twin_qnn"]
        fields = ("bit_budget", "macs", "s_ace", "ns_ace", "firing_rate", "word_sparsity", "bit_sparsity", "synops")
        figures = [*(layer[name] for name in fields), layer["sqnr_db"], serial, rival, serial / rival]
        assert [float(cell["data-order"]) for cell in row[4:]] == pytest.approx(figures)
        in_joules = [*figures[:9], serial * 1e-12, rival * 1e-12, serial / rival]
        for text, value in zip(texts[4:], in_joules, strict=True):
            assert number(text) == pytest.approx(value, rel=0.006, abs=0.0006)


def test_totals_are_the_reports(small_report, page):
    totals = saved(small_report)["totals"]
    rows = page.cells("totals")[1:]
    assert len(rows) == len(totals)
    by_name = {name: number(value) for name, value, _ in rows}
    assert by_name["S-ACE"] == pytest.approx(totals["s_ace"], rel=0.005)
    assert by_name["SynOps"] == pytest.approx(totals["synops"], rel=0.005)
    assert by_name["Weights"] == totals["weight_bytes"] > 0
    assert by_name["Analog MACs"] == pytest.approx(totals["analog_macs"], rel=0.005)
    assert by_name["Analog MACs"] > 0
    assert all(meaning for _, _, meaning in rows)


def test_energies_are_those_of_every_model(small_report, page):
    models = saved(small_report)["energy"]["models"]
    rows = page.cells("energy-totals")[1:]
    assert len(rows) == len(models) == 7
    for row, model in zip(rows, models, strict=True):
        assert row[0].startswith(model["title"])
        twin = sum(model["totals"]["twin_qnn"].values())
        for text, network in zip(
            row[1:], ("ann_float32", "ann_int8", "twin_qnn", "snn_serial", "snn_packed"), strict=True
        ):
            cost, ratio = text.rsplit(" ", 1)
            total = sum(model["totals"][network].values())
            scale = 1e-12 if model["unit"] == "pJ" else 1.0
            assert number(cost) == pytest.approx(total * scale, rel=0.005)
            assert number(ratio) == pytest.approx(total / twin, rel=0.006)
    flat = " ".join(page.text.replace("\u00a0", " ").split())
    for model in models:
        for sentence in model["verdict"]:
            said = sentence.split(": ", 1)[1]
            assert said[1:] in flat


def test_headline_tells_accuracy_or_fidelity(small_report, labelled_report, page):
    labelled = " ".join(Page(report_page(labelled_report)).text.replace("\u00a0", " ").split())
    assert "91.20 % → 90.00 %" in labelled
    assert "−1.20 points, 95 % interval −2.00 to −0.40 on 1,000 images" in labelled
    unlabelled = " ".join(page.text.replace("\u00a0", " ").split())
    assert f"{small_report.fidelity.logit_sqnr_db:.1f} dB" in unlabelled
    assert "there are no labels to tell accuracy" in unlabelled
    for flat in (labelled, unlabelled):
        assert "spiking network and its twin; hardware: 45 nm CMOS" in flat


def test_what_stays_analog_is_named_with_its_reason(small_report, page):
    assert small_report.analog
    for item in small_report.analog:
        assert item.name in page.text
        assert item.reason in page.text


def test_allocation_rounds_are_shown_and_the_kept_one_marked(labelled_report, page):
    shown = Page(report_page(labelled_report)).cells("allocation-rounds")[1:]
    assert [row[:3] for row in shown] == [["1", "18.5", "–"], ["2 (kept)", "24", "1.25 µJ"]]
    assert "allocation-rounds" not in page.tables


def test_curves_come_with_their_points(small_report):
    points = [ParetoPoint(16.0, "uniform", "4/1/4", 15.5, 100, None, 0.75, 12.0, 0.1, {})]
    curves = [search_curve(points), time_curve(AnytimeCurve((3, 4), None, (0.5, 1.0), 10))]
    page = Page(report_page(small_report, curves))
    flat = " ".join(page.text.split())
    assert "16 4/1/4 15.5 – 75.00 % 12.0" in flat
    assert "3 – 50.00 % 4 – 100 %" in flat
    assert {"curve-1", "curve-2"} <= set(page.attributes("id"))


def test_the_command_that_reproduces_it_is_given(page):
    assert (
        "snnconvert small --bits 1 --weight-bits 4 --keep-analog gate --override mix:weight_bits=3 --random-weights "
        "--calib-images 16"
    ) in page.text


def test_nothing_a_report_says_becomes_markup(labelled_report):
    layers = tuple(dataclasses.replace(layer, name=EVIL, op=EVIL, code=EVIL) for layer in labelled_report.layers)
    analog = tuple(dataclasses.replace(item, name=EVIL, op=EVIL, reason=EVIL) for item in labelled_report.analog)
    neurons = tuple(dataclasses.replace(item, name=EVIL, layers=(EVIL,)) for item in labelled_report.neurons)
    energy = dataclasses.replace(labelled_report.energy, hardware=EVIL)
    config = {**labelled_report.config, "neuron": EVIL, "overrides": {EVIL: {"bits": 1}}}
    evil = dataclasses.replace(
        labelled_report, layers=layers, analog=analog, neurons=neurons, energy=energy, config=config, model=EVIL,
        weights=EVIL, data=EVIL, notes=(EVIL,), versions={EVIL: EVIL}, preprocessing={EVIL: EVIL},
    )  # fmt: skip
    honest, page = Page(report_page(labelled_report)), Page(report_page(evil))
    assert page.scripts == honest.scripts
    assert len(page.scripts) == 1
    assert Counter(tag for tag, _ in page.tags if tag in ("img", "script")) == {"script": 1}
    assert not any(name.startswith("on") for _, given in page.tags for name in given)
    assert page.cells("layer-table")[1][1] == EVIL


def test_the_page_loads_nothing(small_report, labelled_report):
    curves = [time_curve(AnytimeCurve((3, 4), (0.5, 0.6), (0.5, 1.0), 10), 0.9)]
    text = report_page(labelled_report, curves) + report_page(small_report)
    assert re.findall(r"https?:|url\((?!#)|@import|<!ENTITY", text) == []
    page = Page(report_page(labelled_report, curves))
    assert not {"img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert "src" not in {name for _, given in page.tags for name in given}
    assert all(target.startswith("#") or target == "data:," for target in page.attributes("href"))
    targets = {target[1:] for target in page.attributes("href") if target.startswith("#")}
    assert targets <= set(page.attributes("id"))


def test_no_other_script_may_run(page):
    policy = next(given["content"] for tag, given in page.tags if tag == "meta" and "http-equiv" in given)
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_ids_are_unique_and_pictures_have_the_pages_colours(labelled_report):
    curves = [time_curve(AnytimeCurve((3, 4), (0.5, 0.6), (0.5, 1.0), 10), 0.9)]
    text = report_page(labelled_report, curves)
    page = Page(text)
    assert [name for name, times in Counter(page.attributes("id")).items() if times > 1] == []
    variables = set(re.findall(r"var\(--([\w-]+)\)", text))
    assert variables <= set(re.findall(r"--([\w-]+):", text))
    pictures = text[text.index("</style>") :]
    assert re.findall(r"#[0-9a-fA-F]{6}\b", pictures) == []
    assert "font-family" not in pictures


def test_the_same_report_gives_the_same_bytes(small_report, tmp_path):
    small_report.to_json(tmp_path / "report.json")
    small_report.to_html(tmp_path / "first.html")
    script = (
        "import json, pathlib; from snnconvert.report.report import Report\n"
        "data = json.loads(pathlib.Path('report.json').read_text())\n"
        "Report.from_dict(data).to_html('second.html')"
    )
    repository = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(repository), "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


def test_a_page_of_many_layers_stays_small(small_report):
    first, neurons = small_report.layers[1], small_report.neurons[0]
    assert len(neurons.histogram) == 48
    many = dataclasses.replace(
        small_report,
        layers=tuple(dataclasses.replace(first, name=f"blocks.{index}.mlp.fc1") for index in range(200)),
        neurons=tuple(dataclasses.replace(neurons, name=f"blocks.{index}.mlp.act") for index in range(200)),
    )
    text = report_page(many)
    assert len(text.encode()) < 2_000_000
    assert len(Page(text).tables["layer-table"]) == 201


def test_reports_without_layers_histograms_or_sqnr_have_pages(small_report):
    bare = dataclasses.replace(
        small_report,
        layers=tuple(dataclasses.replace(layer, sqnr_db=None) for layer in small_report.layers),
        neurons=tuple(dataclasses.replace(item, histogram=(), clipped=None) for item in small_report.neurons),
        fidelity=dataclasses.replace(small_report.fidelity, top1_agreement=None, logit_sqnr_db=None),
        config={}, model="", weights="", versions={},
    )  # fmt: skip
    page = Page(report_page(bare))
    assert {row[12] for row in page.cells("layer-table")[1:]} == {"–"}
    empty = dataclasses.replace(bare, layers=(), neurons=(), analog=())
    assert Page(report_page(empty)).cells("layer-table")[1:] == []


def test_reports_without_energies_of_the_twin_are_refused(small_report):
    for change, message in (({"models": ()}, "no energies of the twin model"), ({"constants": {}}, "is missing")):
        damaged = dataclasses.replace(small_report, energy=dataclasses.replace(small_report.energy, **change))
        with pytest.raises(SnnConvertError, match=message):
            report_page(damaged)


def test_a_page_that_can_not_be_written_is_refused(small_report, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be written"):
        small_report.to_html(tmp_path / "file" / "report.html")
    small_report.to_html(tmp_path / "deep" / "report.html")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_a_report_read_back_has_the_same_page(small_report):
    assert report_page(Report.from_dict(saved(small_report))) == report_page(small_report)
