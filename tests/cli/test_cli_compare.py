import dataclasses
import json
import shutil

import pytest
from cli_helpers import assert_one_error, snapshot

from snnconvert.report.report import Report


@pytest.fixture
def networks(digits_run, folder):
    """The digits network's folder, and that of one whose report tells fewer weight bits of one layer."""
    first = shutil.copytree(digits_run[1] / "out", folder / "first")
    report = Report.from_dict(json.loads((first / "report.json").read_text()))
    layers = [dataclasses.replace(report.layers[0], weight_bits=4, bit_budget=32), *report.layers[1:-1]]
    (folder / "second").mkdir()
    dataclasses.replace(report, layers=tuple(layers)).to_json(folder / "second" / "report.json")
    return first, folder / "second"


def test_text_and_its_last_line(cli, networks):
    outcome = cli("compare", *networks)
    assert outcome.code == 0
    assert outcome.err == ""
    assert "first against second" in outcome.out
    assert "Only in first: fc." in outcome.out
    result = outcome.last_line
    assert result["names"] == ["first", "second"]
    assert result["different_layers"] == 1
    assert result["only_first"] == ["fc"]
    assert "layers" not in result


def test_json_is_one_line_with_layers(cli, networks):
    outcome = cli("compare", networks[0] / "report.json", networks[1], "--format", "json")
    assert len(outcome.out.splitlines()) == 1
    assert outcome.last_line["names"] == ["first", "second"]
    (figures,) = outcome.last_line["layers"].values()
    assert {"name": "weight_bits", "first": 8, "second": 4, "difference": -4, "ratio": 0.5, "better": None} in figures


def test_files(cli, networks, folder):
    for kind, start in (
        ("html", "<!DOCTYPE html>"),
        ("md", "# first against second"),
        ("json", "{"),
        ("text", "first"),
    ):
        outcome = cli("compare", *networks, "--format", kind, "-o", f"c.{kind}")
        assert len(outcome.out.splitlines()) == 1
        assert (folder / f"c.{kind}").read_text().startswith(start)
    assert cli("compare", *networks, "--format", "md", "--hardware", "loihi", "-o", "c.md", "--force").code == 0
    assert_one_error(cli("compare", *networks, "-o", "c.md"), "c.md exists")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("first", "missing"), "missing can't be read"),
        (("first", "second", "--format", "html"), "--format html needs a file"),
        (("first", "second", "--hardware", "abacus"), "no hardware profile"),
    ],
)
def test_what_is_wrong_is_one_line(cli, networks, folder, arguments, message):
    before = snapshot(folder)
    assert_one_error(cli("compare", *arguments), message)
    assert snapshot(folder) == before
