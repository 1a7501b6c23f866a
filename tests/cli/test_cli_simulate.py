import json

import pytest
import torch
from cli_helpers import assert_one_error, write_archive
from PIL import Image

import snnconvert
from snnconvert.data.digits import digits_images, digits_preprocessing


@pytest.fixture(scope="module")
def network(digits_run):
    """The folder of the digits network in its default code."""
    return digits_run[1] / "out"


@pytest.fixture(scope="module")
def rate_network(network, tmp_path_factory):
    """The digits network converted again, into rate-coded neurons with one packed layer."""
    from snnconvert.models.digits import load_digits_net

    config = snnconvert.ConversionConfig(
        neuron="if", bits=1, T=6, overrides={"block2.conv2": {"neuron": "packed", "bits": 2, "T": 3}}
    )
    images = torch.stack([digits_images(digits_preprocessing()).calibration[i][0] for i in range(64)])
    snn = snnconvert.convert(load_digits_net(), images, config, progress=False)
    folder = tmp_path_factory.mktemp("rate") / "snn"
    snn.save(folder)
    report = snnconvert.load(network).report
    return folder, snn, report


def test_simulation_agrees_with_python(cli, network):
    outcome = cli("simulate", network, "--images", 40, "-b", 16)
    assert outcome.code == 0
    assert outcome.err == ""
    result = outcome.last_line
    assert result["schema"] == "snnconvert.simulation/1"
    snn = snnconvert.load(network)
    images = digits_images(digits_preprocessing(), evaluation_images=40).evaluation
    inputs = torch.stack([images[i][0] for i in range(40)])
    labels = torch.tensor([images[i][1] for i in range(40)])
    run = snn.simulate(inputs, record=("spikes",))
    assert result["ticks"] == run.ticks
    assert result["curve"]["images"] == 40
    assert result["curve"]["ticks"] == list(run.readout_ticks)
    decisions = run.readout.argmax(2)
    assert result["curve"]["accuracy"] == pytest.approx((decisions == labels).double().mean(1).tolist())
    assert result["curve"]["agreement"] == pytest.approx((decisions == decisions[-1]).double().mean(1).tolist())
    assert [layer["name"] for layer in result["layers"]] == list(run.layers)
    for layer, record in zip(result["layers"], run.layers.values(), strict=True):
        fired = (record.spikes != 0).double()
        assert layer["firing_rate"] == pytest.approx(float(fired.mean()))
        assert layer["step_rates"] == pytest.approx(fired.flatten(1).mean(1).tolist())
        assert layer["unevenness"]["differing"] == 0  # packed neurons


def test_latency_is_selected_and_said(cli, rate_network):
    folder, snn, report = rate_network
    x = torch.zeros(1, *snn.input_shape)
    assert not snn.report.preprocessing
    assert_one_error(cli("simulate", folder), str(folder), "prepared", "Python")
    snn.report = report
    snn.save(folder, force=True)
    for latency in ("streaming", "window"):
        outcome = cli("simulate", folder, "--images", 8, "--latency", latency, "-q")
        assert outcome.code == 0
        assert len(outcome.out.splitlines()) == 1
        assert outcome.last_line["latency"] == latency
        assert outcome.last_line["ticks"] == snn.simulate(x, latency=latency).ticks
    table = cli("simulate", folder, "--images", 8).out
    assert "integrates each operand over its own window" in table


def test_pictures_are_written(cli, network, folder):
    pytest.importorskip("matplotlib")
    outcome = cli("simulate", network, "--images", 8, "--plots", "new/pictures", "-q")
    assert outcome.code == 0
    assert sorted(path.name for path in (folder / "new/pictures").iterdir()) == ["curve.png", "raster.png", "rates.png"]
    for path in (folder / "new/pictures").iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 5


def test_own_images(cli, network, folder):
    write_archive(folder / "mine.npz", 60)
    outcome = cli("simulate", network, "--data", "mine.npz", "--images", 12, "-q")
    assert outcome.code == 0, outcome.err
    assert outcome.last_line["curve"]["images"] == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing-here"], ["config.json", "can't be read"]),
        (["{network}", "--images", "0"], ["--images", "at least 1"]),
        (["{network}", "--batch-size", "-1"], ["--batch-size", "at least 1"]),
        (["{network}", "--data", "nothing.npz"], ["nothing.npz"]),
        (["{network}", "--plots", "taken/pictures"], ["taken", "can't be written"]),
    ],
)
def test_bad_input_is_one_line(cli, network, folder, arguments, words):
    (folder / "taken").write_text("a file")
    assert_one_error(cli("simulate", *(str(network) if a == "{network}" else a for a in arguments)), *words)


def test_unknown_option_is_refused(cli, network):
    outcome = cli("simulate", network, "--latency", "slow")
    assert outcome.code == 2
    assert "--latency" in outcome.err


def test_saved_network_of_another_code_reloads(cli, folder):
    outcome = cli("digits", "--neuron", "lif:leak=0.9", "--bits", "1", "--T", "8", "--eval-images", "40", "-o", "lif")
    assert outcome.code == 0, outcome.err
    assert "lif:leak=0.9" in outcome.out
    snn = snnconvert.load("lif")
    assert snn.config.neuron == "lif:leak=0.9"
    assert [neuron.code.name for _, neuron in snn.neurons()] == ["packed", *["lif"] * 6]
    config = json.loads((folder / "lif" / "config.json").read_text())
    assert config["conversion"]["neuron"] == "lif:leak=0.9"
