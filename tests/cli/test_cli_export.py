import json

import numpy as np
import pytest
import torch
from cli_helpers import assert_one_error

import snnconvert


@pytest.fixture(scope="module")
def network(digits_run):
    """The folder of the digits network."""
    return digits_run[1] / "out"


def test_nir_file_runs_as_the_network(cli, folder):
    pytest.importorskip("nir")
    from snnconvert.export.nir_read import read_nir

    layers = torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    inputs = torch.randn(16, 1, 8, 8)
    snnconvert.convert(torch.nn.Sequential(*layers).eval(), inputs, progress=False).save("snn")
    outcome = cli("export", "snn", "--to", "nir", "-o", "net.nir")
    assert outcome.code == 0, outcome.err
    facts = outcome.last_line
    assert (facts["schema"], facts["format"], facts["file"]) == ("snnconvert.export/1", "nir", "net.nir")
    counts = (inputs / facts["input_step"]).round().clamp(facts["input_minimum"], facts["input_maximum"])
    output, _ = read_nir("net.nir").run(counts.to(getattr(torch, facts["dtype"])).expand(facts["T"], *counts.shape))
    logits = (output.double().sum(0) + torch.tensor(facts["output_constant"])) * torch.tensor(facts["output_unit"])
    torch.testing.assert_close(logits.float(), snnconvert.load("snn")(inputs), rtol=1e-6, atol=0)


def test_spike_streams_hold_the_spikes(cli, network, folder):
    outcome = cli("export", network, "--to", "spikes", "--images", 3, "-q", "-o", "streams.npz")
    assert outcome.code == 0, outcome.err
    assert outcome.last_line["images"] == 3
    with np.load(folder / "streams.npz", allow_pickle=False) as archive:
        manifest = json.loads(archive["manifest"].tobytes())
        assert manifest["images"] == 3
        assert archive["input"].shape[0] == archive["logits"].shape[0] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "--to", "nir"], ["nothing", "can't be read"]),
        (["{network}", "--to", "spikes", "-o", "taken.npz"], ["taken.npz", "exists"]),
        (["{network}", "--to", "spikes", "-o", "plain"], ["plain", ".npz"]),
        (["{network}", "--to", "spikes", "--images", "0"], ["--images"]),
    ],
)
def test_bad_input_is_one_line(cli, network, folder, arguments, words):
    (folder / "taken.npz").write_text("mine")
    assert_one_error(cli("export", *(str(network) if a == "{network}" else a for a in arguments)), *words)
    assert (folder / "taken.npz").read_text() == "mine"


def test_what_nir_cannot_say_is_one_line(cli, folder):
    pytest.importorskip("nir")
    code = cli("digits", "--neuron", "ternary", "--T", "4", "--eval-images", "20", "-q", "-o", "other").code
    assert code == 0
    assert_one_error(cli("export", "other", "--to", "nir"), "ternary", "reset=hard")
    assert cli("digits", "--eval-images", "20", "-q", "-o", "other", "--force").code == 0
    assert_one_error(cli("export", "other", "--to", "nir"), "stem.3", "max_pool2d")
    assert sorted(path.name for path in folder.iterdir()) == ["other"]


def test_a_format_is_needed(cli, network):
    outcome = cli("export", network)
    assert outcome.code == 2
    assert "--to" in outcome.err
