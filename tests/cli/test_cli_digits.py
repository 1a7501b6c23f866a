import json

import pytest
import torch
from cli_helpers import ARTIFACT_FILES, run_process
from slow_cases import mostly_slow

import snnconvert
from snnconvert.data.digits import digits_images, digits_preprocessing
from snnconvert.models.digits import load_digits_net

REPORT_KEYS = [
    "schema", "metric", "fidelity", "coverage", "totals", "analog", "energy", "config", "calibration_images", "model",
    "weights", "data", "preprocessing", "notes", "versions", "task",
]  # fmt: skip
LAYERS = ["stem.0", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "block2.shortcut.0", "fc"]
LOAD_AND_RUN = """
import sys, torch, snnconvert
images = torch.load("images.pt", weights_only=True)
torch.save(snnconvert.load("out")(images), sys.argv[1])
"""


@pytest.fixture(scope="module")
def outcome(digits_run):
    return digits_run[0]


@pytest.fixture(scope="module")
def place(digits_run):
    return digits_run[1]


def held_out_images():
    images = digits_images(digits_preprocessing()).evaluation
    inputs, labels = zip(*(images[i] for i in range(len(images))), strict=True)
    return torch.stack(inputs), torch.tensor(labels)


def test_digits_succeeds_and_is_silent_on_stderr_without_a_terminal(outcome):
    assert outcome.code == 0
    assert outcome.err == ""


def test_digits_writes_the_four_files_and_nothing_else(outcome, place):
    entries = {str(path.relative_to(place)) for path in place.rglob("*") if path.name != "images.pt"}
    assert entries - {"logits.pt"} == {"out", *(f"out/{name}" for name in ARTIFACT_FILES)}


def test_digits_last_line_is_the_report_without_tables(outcome, place):
    report = json.loads((place / "out" / "report.json").read_text())
    assert [layer["name"] for layer in report.pop("layers")] == LAYERS
    assert set(report) - set(outcome.last_line) == {"neurons"}
    assert all(outcome.last_line[key] == report[key] for key in outcome.last_line if key != "energy")
    assert list(outcome.last_line) == REPORT_KEYS
    assert set(outcome.last_line["metric"]) == {"name", "ann", "snn", "images", "difference_ci95"}
    assert set(outcome.last_line["fidelity"]) == {"top1_agreement", "logit_sqnr_db", "images", "measured_on"}
    totals = {item["model"]: item["totals"]["snn_serial"] for item in report["energy"]["models"]}
    of_line = outcome.last_line["energy"]["totals"]
    assert {name: of_line[name]["snn_serial"] for name in totals} == {
        name: pytest.approx(sum(cost.values())) for name, cost in totals.items()
    }


def test_digits_keeps_the_accuracy_of_the_ann(outcome):
    metric = outcome.last_line["metric"]
    assert metric["images"] == 540
    assert metric["ann"] > 0.97
    assert abs(metric["snn"] - metric["ann"]) <= 0.01
    low, high = metric["difference_ci95"]
    assert low <= metric["snn"] - metric["ann"] <= high


def test_digits_reported_accuracies_are_those_of_the_two_networks(outcome, place):
    images, labels = held_out_images()
    snn = snnconvert.load(place / "out")
    with torch.no_grad():
        ann_output, snn_output = load_digits_net()(images), snn(images)
    metric, fidelity = outcome.last_line["metric"], outcome.last_line["fidelity"]
    right = (ann_output.argmax(1) == labels).double().mean(), (snn_output.argmax(1) == labels).double().mean()
    assert (metric["ann"], metric["snn"]) == pytest.approx(tuple(float(share) for share in right), abs=1e-12)
    agreement = float((ann_output.argmax(1) == snn_output.argmax(1)).double().mean())
    assert fidelity["top1_agreement"] == pytest.approx(agreement, abs=1e-12)
    noise = (ann_output.double() - snn_output.double()).square().sum()
    sqnr = 10 * torch.log10(ann_output.double().square().sum() / noise)
    assert fidelity["logit_sqnr_db"] == pytest.approx(float(sqnr), abs=1e-3)


def test_digits_totals_are_sums_of_the_layers(outcome, place):
    layers = json.loads((place / "out" / "report.json").read_text())["layers"]
    totals = outcome.last_line["totals"]
    for layer in layers:
        assert layer["bit_budget"] == layer["T"] * layer["spike_bits"] * layer["weight_bits"]
        assert layer["s_ace"] == layer["macs"] * layer["bit_budget"]
        assert layer["ns_ace"] == pytest.approx(layer["s_ace"] * layer["firing_rate"])
        assert 0 < layer["firing_rate"] <= 1
    assert totals["s_ace"] == sum(layer["s_ace"] for layer in layers)
    assert totals["ns_ace"] == pytest.approx(sum(layer["ns_ace"] for layer in layers))
    assert totals["macs"] == sum(layer["macs"] for layer in layers)
    assert totals["bit_budget"] == pytest.approx(totals["s_ace"] / totals["macs"])
    assert totals["input_layer_s_ace"] == layers[0]["s_ace"]


def test_digits_shows_plan_and_report_tables_with_every_layer(outcome):
    plan, report = outcome.out.split("mean bit budget", 1)
    for name in LAYERS:
        assert f"\n{name} " in plan
        assert f"\n{name} " in report
    assert "100.00% of 458 k MACs on spikes" in plan
    assert "b_w/b_s/T" in plan
    assert "NS-ACE" in report


def test_digits_headline_says_accuracy_fidelity_budget_and_where_it_was_written(outcome):
    metric, totals = outcome.last_line["metric"], outcome.last_line["totals"]
    text = outcome.out
    assert f"ANN {metric['ann']:.2%}, SNN {metric['snn']:.2%} on 540 images" in text
    assert f"bit budget  {totals['bit_budget']:.4g} " in text
    assert "top-1 agreement with the ANN" in text
    assert "written to out" in text.splitlines()[-2]


def test_digits_lines_have_no_trailing_blanks_and_no_carriage_returns(outcome):
    assert "\r" not in outcome.out
    assert [line for line in outcome.out.splitlines() if line != line.rstrip()] == []


@pytest.mark.slow
def test_digits_artifact_gives_the_same_logits_in_another_process(place):
    images, _ = held_out_images()
    torch.save(images[:64], place / "images.pt")
    loaded = run_process(["-c", LOAD_AND_RUN, "logits.pt"], place)
    assert loaded.code == 0, loaded.err
    expected = snnconvert.load(place / "out")(images[:64])
    assert torch.equal(torch.load(place / "logits.pt", weights_only=True), expected)


def test_digits_is_reproducible_in_process_whatever_the_batch_size(digits_run, cli, folder):
    first, place = digits_run
    again = cli("digits", "--bits", "2", "--T", "4", "-b", "77", "-o", "out")
    # The ANN's own logits depend on the batch in their last digits.
    expected = pytest.approx(first.last_line["fidelity"].pop("logit_sqnr_db"), abs=1e-5)
    assert again.last_line["fidelity"].pop("logit_sqnr_db") == expected
    for name in ("graph.json", "model.safetensors"):
        assert (folder / "out" / name).read_bytes() == (place / "out" / name).read_bytes(), name


def test_digits_output_folder_is_named_after_the_model_by_default(cli, folder):
    outcome = cli("digits", "--eval-images", "20", "--calib-images", "16")
    assert outcome.code == 0
    assert sorted(path.name for path in (folder / "snn-digits").iterdir()) == ARTIFACT_FILES
    assert outcome.last_line["calibration_images"] == 16
    assert outcome.last_line["metric"]["images"] == 20


def test_seed_chooses_other_calibration_images(cli, folder):
    thresholds = []
    for seed in ("0", "1"):
        assert cli("digits", "--seed", seed, "--calib-images", "16", "-o", f"out{seed}", "-q").code == 0
        layers = json.loads((folder / f"out{seed}" / "report.json").read_text())["layers"]
        thresholds.append([layer["threshold"] for layer in layers])
    assert thresholds[0] != thresholds[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    mostly_slow(
        [
            (["--threshold", "max"], {"threshold": "max"}),
            (["--threshold", "percentile", "--percentile", "99"], {"threshold": "percentile", "percentile": 99.0}),
            (["--no-bias-correction"], {"bias_correction": False}),
            (["--potential-correction"], {"potential_correction": True}),
            (["--bits", "1", "--T", "4", "--weight-bits", "4"], {"bits": 1, "T": 4, "weight_bits": 4}),
            (["--weight-bits", "4", "--weight-granularity", "channel"], {"weight_granularity": "channel"}),
            (
                ["--weight-bits", "4", "--weight-granularity", "group", "--weight-group", "8"],
                {"weight_granularity": "group", "weight_group": 8},
            ),
            (["--input-bits", "4", "--first-last-weight-bits", "6"], {"input_bits": 4, "first_last_weight_bits": 6}),
        ],
        keep=[
            (["--no-bias-correction"], {"bias_correction": False}),
            (["--bits", "1", "--T", "4", "--weight-bits", "4"], {"bits": 1, "T": 4, "weight_bits": 4}),
        ],
    ),
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings_reach_the_report_and_the_saved_network(cli, folder, options, expected):
    outcome = cli("digits", *options, "--eval-images", "100", "-o", "out")
    assert outcome.code == 0
    assert expected.items() <= outcome.last_line["config"].items()
    assert snnconvert.load(folder / "out").config.to_dict() == outcome.last_line["config"]
    assert outcome.last_line["metric"]["snn"] > 0.8


def test_weight_and_input_bits_show_layer_by_layer(cli, folder):
    options = ["--bits", "1", "--T", "2", "--weight-bits", "3", "--first-last-weight-bits", "5", "--input-bits", "6"]
    assert cli("digits", *options, "-o", "out", "--eval-images", "10").code == 0
    layers = json.loads((folder / "out" / "report.json").read_text())["layers"]
    settings = {layer["name"]: (layer["weight_bits"], layer["spike_bits"], layer["T"]) for layer in layers}
    assert settings.pop("stem.0") == (5, 6, 1)
    assert settings.pop("fc") == (5, 4, 2)
    assert set(settings.values()) == {(3, 1, 2)}
