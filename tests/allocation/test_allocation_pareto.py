"""The curve: its points, and a file that grows and is continued."""

import dataclasses
import json

import pytest
import torch
from allocation_networks import Residual, images_for, seeded

import snnconvert
from snnconvert.allocation import pareto
from snnconvert.allocation.pareto import SCHEMA, ParetoFile, ParetoPoint, read_pareto
from snnconvert.errors import ArtifactError, ConfigurationError, InputError
from snnconvert.report.schema import Metric

BUDGETS = [40, 9]
WANTED = [(40, "mixed"), (40, "uniform"), (9, "mixed")]  # every uniform allocation takes more than 9


def point(budget=8.0, kind="mixed", snn=0.9):
    metric = Metric("top1", 0.95, snn, 100, (-0.1, 0.0))
    return ParetoPoint(budget, kind, "", budget - 0.5, 100, metric, 0.97, 20.0, 0.01, {"a": {"T": 2}})


def run(out, budgets=BUDGETS, **settings):
    images = images_for(Residual, 32)
    with torch.no_grad():
        labels = seeded(Residual)(images).argmax(1)
    batches = list(zip(images.split(8), labels.split(8), strict=True))
    options = {key: settings.pop(key) for key in ("force", "about") if key in settings}
    config = snnconvert.ConversionConfig(**settings)
    return snnconvert.search(seeded(Residual), batches, budgets, config, out=out, progress=False, **options)


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pareto")
    return run(folder / "out"), folder / "out"


def test_each_budget_has_a_mixed_and_if_possible_a_uniform_point_within_it(traced):
    points, _ = traced
    assert [(it.budget, it.kind) for it in points] == WANTED
    for item in points:
        assert item.bit_budget <= item.budget
        assert item.metric.ann == 1.0
        assert item.metric.snn == pytest.approx(item.top1_agreement)
        assert bool(item.setting) == (item.kind == "uniform")
        assert bool(item.overrides) == (item.kind == "mixed")
    assert points[0].logit_sqnr_db > points[2].logit_sqnr_db


def test_a_point_is_the_conversion_it_names(traced):
    (item,) = [it for it in traced[0] if it.kind == "uniform" and it.budget == 40]
    weight_bits, bits, steps = map(int, item.setting.split("/"))
    config = snnconvert.ConversionConfig(weight_bits=weight_bits, bits=bits, T=steps)
    images = images_for(Residual, 32)
    snn = snnconvert.convert(seeded(Residual), images.split(8), config, progress=False)
    assert snn.report.totals.bit_budget == pytest.approx(item.bit_budget)
    assert snn.report.fidelity.logit_sqnr_db == pytest.approx(item.logit_sqnr_db, rel=1e-6)


def test_the_file_holds_the_points(traced):
    points, folder = traced
    data = json.loads((folder / "pareto.json").read_text())
    assert data["schema"] == SCHEMA
    assert read_pareto(folder / "pareto.json") == points


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def die(self, added):
        original(self, added)
        raise KilledError

    original = ParetoFile.add
    monkeypatch.setattr(ParetoFile, "add", die)
    with pytest.raises(KilledError):
        run(tmp_path)
    monkeypatch.setattr(ParetoFile, "add", original)
    (first,) = read_pareto(tmp_path / "pareto.json")
    marked = dataclasses.replace(first, predicted_error=123.0)
    data = json.loads((tmp_path / "pareto.json").read_text())
    data["points"] = [dataclasses.asdict(marked)]
    (tmp_path / "pareto.json").write_text(json.dumps(data))
    points = run(tmp_path)
    assert points[0] == marked  # not measured again
    assert [(it.budget, it.kind) for it in points] == WANTED
    monkeypatch.setattr(pareto, "Allocator", None)
    assert run(tmp_path) == points  # nothing is left to measure


def test_a_file_of_others_is_refused_unless_forced(tmp_path):
    file = ParetoFile(tmp_path / "pareto.json", "one", {"model": "net"})
    file.add(point())
    assert ParetoFile(tmp_path / "pareto.json", "one", {}).points == [point()]
    with pytest.raises(InputError, match=r"other settings.*--force"):
        ParetoFile(tmp_path / "pareto.json", "two", {})
    assert ParetoFile(tmp_path / "pareto.json", "two", {}, force=True).points == []
    (tmp_path / "pareto.json").write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        ParetoFile(tmp_path / "pareto.json", "one", {})
    with pytest.raises(ArtifactError):
        read_pareto(tmp_path / "pareto.json")


@pytest.mark.parametrize("changed", [{"weight_rounding": "gptq"}, {"about": {"data": "others"}}])
def test_the_fingerprint_tells_settings_and_data_apart(tmp_path, changed, monkeypatch):
    monkeypatch.setattr(pareto, "trace_pareto", lambda *args, **settings: [])
    prints = []
    monkeypatch.setattr("snnconvert.pareto_search.ParetoFile", lambda path, mark, about, force: prints.append(mark))
    monkeypatch.setattr("snnconvert.pareto_search.trace_pareto", lambda *args, **settings: [])
    for settings in ({}, {}, changed):
        run(tmp_path, **settings)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("budgets", "settings", "message"),
    [([], {}, "positive"), ([0], {}, "positive"), ([8], {"budget": 8}, "exclude"), ([1], {}, "can't be met")],
)
def test_searches_that_make_no_sense_are_refused(budgets, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        run(None, budgets, **settings)
