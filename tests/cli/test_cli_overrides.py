import json

import pytest
from cli_helpers import assert_one_error

from snnconvert.cli.arguments import build_parser, config_from, parse_override
from snnconvert.config import LayerOverride
from snnconvert.errors import ConfigurationError


def settings_of(layers):
    return {layer["name"]: (layer["weight_bits"], layer["spike_bits"], layer["T"]) for layer in layers}


def config_of(*arguments):
    return config_from(build_parser().parse_args(["digits", *arguments]))


@pytest.mark.parametrize(
    ("text", "pattern", "override"),
    [
        ("fc:bits=4", "fc", LayerOverride(bits=4)),
        ("fc:bits=4,T=1,weight_bits=8", "fc", LayerOverride(bits=4, T=1, weight_bits=8)),
        ("(?:a|b):T=2", "(?:a|b)", LayerOverride(T=2)),
        (r"layer1\..*:weight_bits=3", r"layer1\..*", LayerOverride(weight_bits=3)),
        ("fc: bits = 4 , T = 2", "fc", LayerOverride(bits=4, T=2)),
        ("fc:neuron=if", "fc", LayerOverride(neuron="if")),
        ("fc:T=16,bits=1,neuron=if:reset=hard,v0=0", "fc", LayerOverride(bits=1, T=16, neuron="if:reset=hard,v0=0")),
    ],
)
def test_parse_override_reads_pattern_and_settings(text, pattern, override):
    assert parse_override(text) == (pattern, override)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fc",
        "fc:",
        "bits=4",
        "fc:bits",
        "fc:bits=",
        "fc:bits=x",
        "fc:colour=4",
        "fc:4",
        "neuron=if",
        "fc:4,neuron=if",
    ],
)
def test_parse_override_refuses_what_is_malformed(text):
    with pytest.raises(ConfigurationError, match="is not of the form"):
        parse_override(text)


def test_two_overrides_of_one_pattern_add_up():
    override = config_of("--override", "fc:bits=1", "--override", "fc:T=8").override_for("fc")
    assert (override.bits, override.T) == (1, 8)


def test_later_patterns_win_field_by_field():
    override = config_of("--override", "block1.*:bits=1,T=8", "--override", r".*\.conv2:bits=4,T=2").override_for
    assert override("block1.conv1") == LayerOverride(bits=1, T=8)
    assert override("block1.conv2") == LayerOverride(bits=4, T=2)
    assert override("block2.conv1") == LayerOverride()


def test_override_shows_in_plan_report_and_file(cli, folder):
    outcome = cli("digits", "--override", r"block1\..*:bits=1,T=8", "-o", "out", "--eval-images", "100")
    assert outcome.code == 0, outcome.err
    layers = json.loads((folder / "out" / "report.json").read_text())["layers"]
    settings = settings_of(layers)
    assert settings["block1.conv1"] == settings["block1.conv2"] == (8, 1, 8)
    assert settings["block2.conv2"] == settings["fc"] == (8, 2, 4)
    rows = [line for line in outcome.out.splitlines() if line.startswith("block1.conv2 ")]
    assert len(rows) == 2
    assert all("8/1/8" in row for row in rows)
    assert outcome.last_line["config"]["overrides"][r"block1\..*"]["T"] == 8
    assert outcome.last_line["metric"]["snn"] > 0.9


def test_override_of_weight_bits_shows_in_the_dry_run(cli):
    outcome = cli("digits", "--override", "block1.conv2:weight_bits=3", "--dry-run")
    settings = settings_of(outcome.last_line["layers"])
    assert settings["block1.conv2"] == (3, 2, 4)
    assert settings["block1.conv1"] == (8, 2, 4)


def test_keep_analog_leaves_a_layer_as_it_is(cli, folder):
    outcome = cli("digits", "--keep-analog", "fc", "--keep-analog", "block1.conv1", "-o", "out", "--eval-images", "100")
    assert outcome.code == 0, outcome.err
    names = [layer["name"] for layer in json.loads((folder / "out" / "report.json").read_text())["layers"]]
    assert "fc" not in names
    assert "block1.conv1" not in names
    assert "block1.conv2" in names
    kept = {item["name"]: item for item in outcome.last_line["analog"]}
    assert "override" in kept["fc"]["reason"]
    totals = outcome.last_line["totals"]
    assert totals["analog_macs"] == kept["fc"]["macs"] + kept["block1.conv1"]["macs"] == 480 + 147_456
    assert totals["analog_ace"] == totals["analog_macs"] * 32 * 32
    assert outcome.last_line["coverage"]["macs_on_spikes"] == pytest.approx(1 - totals["analog_macs"] / totals["macs"])
    assert outcome.last_line["metric"]["snn"] > 0.9


def test_keep_analog_wins_over_an_override_of_the_same_layer(cli):
    outcome = cli("digits", "--override", "fc:bits=1", "--keep-analog", "fc", "--dry-run")
    assert outcome.code == 0
    assert "fc" not in settings_of(outcome.last_line["layers"])


def test_every_layer_analog_is_an_error(cli, folder):
    outcome = cli("digits", "--keep-analog", ".*")
    assert_one_error(outcome, "nothing to convert", "stem.0")
    assert list(folder.iterdir()) == []


def test_the_code_of_attention_maps_is_read_and_checked(cli):
    assert config_of().attention_code == "uniform"
    assert config_of("--attention-code", "log-sqrt2").attention_code == "log-sqrt2"
    assert_one_error(cli("digits", "--attention-code", "log3", "--dry-run"), "--attention-code", "log-sqrt2")
    refused = cli("digits", "--attention-code", "log2", "--neuron", "if", "--bits", "1", "--T", "8", "--dry-run")
    assert_one_error(refused, "attention_code log2 needs packed neurons")
    shown = cli("digits", "--attention-code", "log2", "--dry-run")
    assert shown.code == 0
    assert "note: attention_code log2 changes nothing" in shown.out
