import pytest
import torch
from cli_helpers import ARTIFACT_FILES

import snnconvert

FEW = ["--random-weights", "--calib-images", "8", "--eval-images", "6", "-b", "4", "-o", "out"]


@pytest.mark.parametrize("model", ["test_resnet", pytest.param("test_byobnet", marks=pytest.mark.slow)])
def test_random_weights_without_data_report_fidelity_instead_of_accuracy(cli, folder, model):
    outcome = cli(model, *FEW)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    report = outcome.last_line
    assert report["metric"] is None
    assert report["weights"] == "random"
    assert report["fidelity"]["images"] == 6
    assert report["fidelity"]["measured_on"] == "evaluation images"
    assert 0 <= report["fidelity"]["top1_agreement"] <= 1
    assert report["fidelity"]["logit_sqnr_db"] > 0
    notes = " ".join(report["notes"])
    assert "random" in notes
    assert "no labels" in notes
    assert "photographs" in report["data"]
    assert "accuracy   " not in outcome.out
    assert "fidelity   " in outcome.out
    for note in report["notes"]:
        assert f"note        {note}" in outcome.out
    assert sorted(path.name for path in (folder / "out").iterdir()) == ARTIFACT_FILES
    images = torch.rand(2, 3, 160, 160)
    assert snnconvert.load(folder / "out")(images).shape == (2, 1000)


@pytest.mark.slow
def test_seed_decides_random_weights(cli):
    first, again, other = (
        cli("digits", "--random-weights", "-o", f"out{i}", "--seed", seed, "--eval-images", "40").last_line["fidelity"]
        for i, seed in enumerate(("0", "0", "1"))
    )
    assert first == again
    assert first != other


def test_name_with_a_source_prefix(cli, folder):
    report = cli("timm/test_resnet", "--random-weights", "--dry-run").last_line
    assert report["model"] == "test_resnet"


@pytest.mark.slow
def test_transformer_converts_loads_and_counts_its_analog_remainder_apart(cli, folder):
    report = cli("test_vit", *FEW).last_line
    totals = report["totals"]
    assert totals["analog_macs"] == sum(item["macs"] for item in report["analog"]) == 0
    assert report["coverage"]["macs_on_spikes"] == 1.0
    assert {item["op"] for item in report["analog"]} == {"softmax", "layer_norm", "add", "mul", "cat"}
    assert snnconvert.load(folder / "out")(torch.rand(2, 3, 160, 160)).shape == (2, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["test_efficientnet", "test_convnext", "test_nfnet", "test_mambaout", "test_maxvit"])
def test_other_families_convert_and_load(cli, folder, model):
    outcome = cli(model, *FEW)
    assert outcome.code == 0, outcome.err
    assert outcome.last_line["fidelity"]["logit_sqnr_db"] > 0
    assert outcome.last_line["coverage"]["macs_on_spikes"] > 0.9
    assert snnconvert.load(folder / "out")(torch.rand(2, 3, 160, 160)).shape == (2, 1000)
