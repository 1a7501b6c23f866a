import json

import pytest
from cli_helpers import write_archive

import snnconvert

FEW = ["--calib", "none", "--eval-images", "100", "-o", "out", "-q"]


@pytest.fixture(scope="module")
def note():
    return "calibrated without data: on 64 synthesized images (seed 0)"


def test_digits_keeps_its_accuracy_without_data(cli, folder, note):
    outcome = cli("digits", *FEW)
    assert outcome.code == 0
    report = outcome.last_line
    assert report["calibration_images"] == 0
    assert report["notes"] == [f"{note}, matched to the statistics of 6 BatchNorm layers in 50 steps"]
    assert report["data"].endswith("Those for calibration were left unread.")
    assert report["metric"]["images"] == 100
    assert report["metric"]["snn"] >= report["metric"]["ann"] - 0.02
    assert json.loads((folder / "out" / "report.json").read_text())["notes"] == report["notes"]
    assert snnconvert.load(folder / "out").report.calibration_images == 0


def test_batchnorms_that_never_ran_are_not_matched(cli, note):
    outcome = cli("digits", "--random-weights", *FEW)
    assert outcome.code == 0
    random, synthesized = outcome.last_line["notes"]
    assert "random" in random
    assert synthesized.startswith(f"{note}; there are no BatchNorm statistics")


def test_evaluation_images_are_those_of_a_calibration_with_data(cli, folder):
    path = write_archive(folder / "digits.npz")
    options = ["digits", "--data", path, "-o", "out", "-q", "--force"]
    with_data, without = (cli(*options, "--calib", choice).last_line for choice in ("data", "none"))
    assert with_data["metric"]["ann"] == without["metric"]["ann"]
    assert with_data["metric"]["images"] == without["metric"]["images"] == 30
    assert with_data["calibration_images"] == 30


def test_other_choices_are_refused(cli):
    outcome = cli("digits", "--calib", "some")
    assert outcome.code == 2
    assert "'data', 'none'" in outcome.err
