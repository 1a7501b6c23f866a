import csv
import io
import json
import shutil

import pytest
from cli_helpers import assert_one_error, snapshot

from snnconvert.energy.profile import load_profile
from snnconvert.report.hardware import on_hardware
from snnconvert.report.report import Report


@pytest.fixture
def network(digits_run, folder):
    """A copy of the digits network's folder."""
    return shutil.copytree(digits_run[1] / "out", folder / "out")


def report_of(network):
    return Report.from_dict(json.loads((network / "report.json").read_text()))


def test_a_page_is_written_beside_the_report(cli, network):
    outcome = cli("report", network)
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.last_line == {
        "schema": "snnconvert.written/1",
        "file": str(network / "report.html"),
        "format": "html",
        "bytes": (network / "report.html").stat().st_size,
        "model": "digits",
        "hardware": "45 nm CMOS",
    }
    text = (network / "report.html").read_text(encoding="utf-8")
    assert "snnconvert digits" in text
    assert all(layer.name in text for layer in report_of(network).layers)


@pytest.mark.parametrize("source", [".", "report.json"])
def test_other_formats(cli, network, folder, source):
    report = report_of(network)
    for kind in ("md", "csv", "json"):
        assert cli("report", network / source, "--format", kind, "-o", folder / f"deep/a.{kind}").code == 0
    rows = list(csv.DictReader(io.StringIO((folder / "deep/a.csv").read_text(), newline="")))
    assert [row["name"] for row in rows] == [layer.name for layer in report.layers]
    assert (folder / "deep/a.md").read_text().startswith("# digits\n")
    assert (folder / "deep/a.json").read_bytes() == (network / "report.json").read_bytes()


def test_other_hardware_and_the_users_own(cli, network, folder):
    report, loihi = report_of(network), load_profile("loihi")
    outcome = cli("report", network, "--format", "json", "--hardware", "loihi", "-o", "there.json")
    assert outcome.last_line["hardware"] == loihi.name
    there = Report.from_dict(json.loads((folder / "there.json").read_text()))
    assert there.to_dict() == on_hardware(report, loihi).to_dict()
    own = folder / "own.toml"
    lines = ['schema = "snnconvert.hardware/1"', 'name = "my <b>chip</b>"', 'description = "mine"']
    for table, values in loihi.tables().items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    own.write_text("\n".join(lines))
    assert cli("report", network, "--hardware", own).last_line["hardware"] == "my <b>chip</b>"
    assert "my &lt;b&gt;chip&lt;/b&gt;" in (network / "report.html").read_text()


def test_curves_come_from_searches_and_simulations(cli, network, folder):
    point = {
        "budget": 16.0, "kind": "mixed", "setting": "", "bit_budget": 15.5, "images": 100, "metric": None,
        "top1_agreement": 0.75, "logit_sqnr_db": 12.0, "predicted_error": 0.1, "overrides": {},
    }  # fmt: skip
    (folder / "search").mkdir()
    data = {"schema": "snnconvert.pareto/1", "fingerprint": "", "points": [point]}
    (folder / "search" / "pareto.json").write_text(json.dumps(data))
    simulated = cli("simulate", network, "--images", 16)
    (folder / "simulation.txt").write_text(simulated.out)
    outcome = cli("report", network, "--search", "search", "--simulation", "simulation.txt")
    assert outcome.code == 0, outcome.err
    text = (network / "report.html").read_text()
    assert "Accuracy in time" in text
    assert "75.00 %" in text


def test_a_file_that_is_there_stays_without_force(cli, network):
    (network / "report.html").write_text("mine")
    before = snapshot(network)
    assert_one_error(cli("report", network), "report.html exists")
    assert snapshot(network) == before
    assert cli("report", network, "--force").code == 0
    assert (network / "report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing",), "missing can't be read"),
        (("empty",), "report.json can't be read"),
        (("out", "--hardware", "abacus"), "no hardware profile is called 'abacus'"),
        (("out", "--hardware", "bad.toml"), "accumulate_pj must be a number from 0 up, got -1"),
        (("out", "--hardware", "missing.toml"), "missing.toml: the hardware profile can't be read"),
        (("damaged.json",), "damaged.json is no JSON"),
        (("list.json",), "list.json is no report"),
        (("other.json",), "other.json: report schema"),
        (("out", "--search", "missing"), "missing is no file of points"),
        (("out", "--simulation", "list.json"), "list.json is no simulation"),
        (("out", "--simulation", "missing.json"), "missing.json is no simulation"),
        (("out", "-o", "damaged.json/a.html"), "can't be written"),
        (("out", "-o", "empty"), "empty exists"),
    ],
)
def test_what_is_wrong_is_one_line(cli, network, folder, arguments, message):
    (folder / "empty").mkdir()
    (folder / "damaged.json").write_text("{")
    (folder / "list.json").write_text("[]")
    (folder / "other.json").write_text('{"schema": "other"}')
    tables = load_profile().tables()
    tables["twin"]["accumulate_pj"] = -1
    lines = ['schema = "snnconvert.hardware/1"', 'name = "n"', 'description = "d"']
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    (folder / "bad.toml").write_text("\n".join(lines))
    before = snapshot(folder)
    assert_one_error(cli("report", *arguments), message)
    assert snapshot(folder) == before


def test_a_conversion_reports_energies_of_the_hardware_asked_for(cli, folder):
    outcome = cli("digits", "-q", "--eval-images", 8, "--calib-images", 8, "--hardware", "neuromorphic22")
    assert outcome.code == 0, outcome.err
    report = report_of(folder / "snn-digits")
    assert report.energy.hardware == outcome.last_line["energy"]["hardware"] == "22 nm neuromorphic"
    assert on_hardware(report, load_profile("neuromorphic22")) == report
    assert_one_error(cli("digits", "--force", "--hardware", "abacus"), "no hardware profile is called 'abacus'")
