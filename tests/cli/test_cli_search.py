import json

import pytest
from cli_helpers import assert_one_error

SMALL = ["--calib-images", "32", "--eval-images", "60"]


def test_a_search_writes_its_points_and_a_picture_and_is_continued(cli, folder):
    pytest.importorskip("matplotlib")
    first = cli("search", "digits", *SMALL, "--budgets", 12, "-o", "out")
    assert first.code == 0, first
    found = [(item["budget"], item["kind"]) for item in first.last_line["points"]]
    assert found == [(12.0, "mixed"), (12.0, "uniform")]
    assert all(item["bit_budget"] <= 12 and item["snn"] > 0.9 for item in first.last_line["points"])
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["pareto.json", "pareto.png"]
    before = json.loads((folder / "out" / "pareto.json").read_text())
    second = cli("search", "digits", *SMALL, "--budgets", 12, 4, "-o", "out", "-q")
    after = json.loads((folder / "out" / "pareto.json").read_text())
    assert after["points"][:2] == before["points"]
    assert [(item["budget"], item["kind"]) for item in second.last_line["points"][2:]] == [(4.0, "mixed")]
    assert len(second.out.splitlines()) == 1
    refused = cli("search", "digits", *SMALL, "--budgets", 12, "-o", "out", "--T", 2)
    assert_one_error(refused, "pareto.json", "--force")


def test_a_budget_on_the_command_line_is_kept(cli, folder):
    outcome = cli("digits", *SMALL, "--budget", 10, "-o", "out")
    assert outcome.code == 0, outcome
    assert outcome.last_line["totals"]["bit_budget"] <= 10
    assert outcome.last_line["allocation"]["target"] == 10
    assert "allocation for budget 10" in outcome.out
    assert json.loads((folder / "out" / "config.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "--budget", "8", "--max-drop", "1"], ["exclude each other"]),
        (["digits", "--budget", "0"], ["budget must be positive"]),
        (["digits", "--budget", "1"], ["can't be met", "mean bit budget"]),
        (["search", "digits", "--budgets", "-1"], ["positive"]),
        (["search", "digits", "--budgets", "8", "--bits", "9"], ["bits"]),
    ],
)
def test_impossible_objectives_are_one_line(cli, folder, arguments, words):
    assert_one_error(cli(*arguments, *SMALL), *words)
    assert list(folder.iterdir()) == []


def test_a_file_in_the_folders_place_is_refused_before_any_work(cli, folder):
    (folder / "taken").write_text("mine")
    assert_one_error(cli("search", "digits", *SMALL, "-o", "taken"), "taken", "not a folder")
    assert (folder / "taken").read_text() == "mine"


def test_a_drop_on_the_command_line_is_kept(cli, monkeypatch):
    monkeypatch.setattr("snnconvert.allocation.allocate._BISECTIONS", 2)
    outcome = cli("digits", *SMALL, "--max-drop", 4, "-o", "out", "-q")
    allocation = outcome.last_line["allocation"]
    assert allocation["objective"] == "max_drop"
    assert allocation["rounds"][allocation["chosen"]]["drop"] <= 4
    assert outcome.last_line["totals"]["bit_budget"] < 64
