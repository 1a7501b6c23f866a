import copy
import json
import math

import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.errors import ArtifactError
from snnconvert.neurons.synapse import Synapse
from snnconvert.report.report import Report
from snnconvert.report.schema import SCHEMA, Metric

LAYER_FIELDS = {"name", "op", "macs", "T", "spike_bits", "weight_bits", "bit_budget", "s_ace", "ns_ace"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.grouped = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
        self.mix = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 9, 3)
        self.head = nn.Linear(9, 5)

    def forward(self, x):
        x = torch.relu(self.grouped(torch.relu(self.stem(x))))
        x = torch.relu(x + self.mix(x))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


CONFIG = snnconvert.ConversionConfig(
    bits=1, T=4, weight_bits=4, overrides={"mix": {"analog": True}, "last": {"bits": 2, "T": 3, "weight_bits": 5}}
)


@pytest.fixture(scope="module")
def converted():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network, images = Net().eval(), torch.randn(20, 3, 10, 10)
    return network, images, snnconvert.convert(network, images, CONFIG, progress=False)


@pytest.fixture(scope="module")
def report(converted):
    return json.loads(json.dumps(converted[2].report.to_dict()))


def counted_macs(network, images):
    """Multiply-accumulates of every layer, from the sizes its hook sees."""
    found = {}

    def count(name):
        def hook(module, inputs, output):
            each = module.weight[0].numel()
            found[name] = output[0].numel() * each

        return hook

    observed = copy.deepcopy(network)
    for name, module in observed.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count(name))
    observed(images[:1])
    return found


def test_the_keys_that_others_rely_on(report):
    assert report["schema"] == SCHEMA
    assert next(iter(report)) == "schema"
    assert report["metric"] is None
    assert 0 <= report["fidelity"]["top1_agreement"] <= 1
    assert report["fidelity"]["logit_sqnr_db"] > 0
    assert set(report["coverage"]) == {"macs_on_spikes"}
    assert {"bit_budget", "s_ace", "ns_ace"} <= set(report["totals"])
    assert all(set(layer) >= LAYER_FIELDS for layer in report["layers"])
    assert report["analog"]
    assert all({"name", "op", "reason"} <= set(item) for item in report["analog"])
    assert all(item["reason"] for item in report["analog"])
    assert {"snnconvert", "torch", "python"} <= set(report["versions"])
    assert report["calibration_images"] == 20


def test_layers_are_named_and_set_as_told(report):
    settings = {
        layer["name"]: (layer["op"], layer["weight_bits"], layer["spike_bits"], layer["T"])
        for layer in report["layers"]
    }
    assert settings == {
        "stem": ("conv2d", 8, 8, 1),
        "grouped": ("conv2d", 4, 1, 4),
        "last": ("conv2d", 5, 2, 3),
        "head": ("linear", 8, 2, 4),
    }
    assert {layer["name"] for layer in report["layers"] if layer["reads_input"]} == {"stem"}
    assert "mix" in {item["name"] for item in report["analog"]}


def test_multiply_accumulates_are_those_of_the_network(converted, report):
    network, images, _ = converted
    macs = counted_macs(network, images)
    assert {layer["name"]: layer["macs"] for layer in report["layers"]} == {
        name: value for name, value in macs.items() if name != "mix"
    }
    (mix,) = [item for item in report["analog"] if item["name"] == "mix"]
    assert mix["macs"] == macs["mix"]
    assert report["totals"]["macs"] == sum(macs.values())
    assert report["totals"]["analog_macs"] == macs["mix"]
    assert report["coverage"]["macs_on_spikes"] == pytest.approx(1 - macs["mix"] / sum(macs.values()))


def test_effort_of_every_layer(report):
    for layer in report["layers"]:
        budget = layer["T"] * layer["weight_bits"] * layer["spike_bits"]
        assert layer["bit_budget"] == budget
        assert layer["s_ace"] == layer["macs"] * budget
        assert layer["ns_ace"] == pytest.approx(layer["firing_rate"] * layer["s_ace"])
        assert layer["spikes_per_neuron"] == pytest.approx(layer["firing_rate"] * layer["T"])


def test_totals_added_up_by_hand(converted, report):
    network, _, _ = converted
    layers, totals = report["layers"], report["totals"]
    macs = sum(layer["macs"] for layer in layers)
    budgets = sum(layer["macs"] * layer["T"] * layer["weight_bits"] * layer["spike_bits"] for layer in layers)
    assert totals["s_ace"] == budgets
    assert totals["ns_ace"] == pytest.approx(sum(layer["ns_ace"] for layer in layers))
    assert totals["bit_budget"] == pytest.approx(budgets / macs)
    assert totals["analog_ace"] == totals["analog_macs"] * 32 * 32
    assert totals["input_layer_s_ace"] == layers[0]["s_ace"]
    weights = {name: module.weight.numel() for name, module in network.named_children()}
    bits = sum(weights[layer["name"]] * layer["weight_bits"] for layer in layers)
    assert totals["weight_bytes"] == math.ceil(bits / 8)


def test_activity_is_that_of_the_finished_network(converted, report):
    """Spikes that each synapse reads on the calibration images, digit by digit."""
    _, images, snn = converted
    read = {}

    def record(name):
        return lambda module, inputs: read.update({name: (module, inputs[0])})

    hooks = [module.register_forward_pre_hook(record(name)) for name, module in snn.synapses()]
    snn(images)
    for hook in hooks:
        hook.remove()
    for layer in report["layers"]:
        module, words = read[layer["name"]]
        assert isinstance(module, Synapse)
        stored = words.long().flatten() + layer["offset"]
        width, T = layer["spike_bits"], layer["T"]
        spikes = torch.stack([(stored >> (width * t)) % 2**width for t in range(T)])
        bits = torch.stack([(stored >> t) & 1 for t in range(width * T)])
        assert layer["firing_rate"] == pytest.approx(float((spikes != 0).double().mean()))
        assert layer["word_sparsity"] == pytest.approx(float((stored == 0).double().mean()))
        assert layer["bit_sparsity"] == pytest.approx(float((bits == 0).double().mean()))


def test_fidelity_is_measured_on_the_calibration_images(converted, report):
    network, images, snn = converted
    with torch.no_grad():
        ann, output = network(images).double(), snn(images).double()
    agreement = float((ann.argmax(1) == output.argmax(1)).double().mean())
    assert report["fidelity"]["top1_agreement"] == pytest.approx(agreement)
    sqnr = 10 * math.log10(float((ann**2).sum() / ((ann - output) ** 2).sum()))
    assert report["fidelity"]["logit_sqnr_db"] == pytest.approx(sqnr, abs=1e-3)


@pytest.mark.parametrize("metric", [None, Metric("top1", 0.9, 0.89, 100, (-0.03, 0.01))])
def test_it_is_read_back_from_json(converted, metric, tmp_path):
    import dataclasses

    report = dataclasses.replace(
        converted[2].report, metric=metric, model="m", weights="w", data="d", notes=("one", "two")
    )
    report.to_json(tmp_path / "report.json")
    assert Report.from_dict(json.loads((tmp_path / "report.json").read_text())) == report
    assert Report.from_dict(report.to_dict()) == report


def test_the_summary_leaves_out_the_tables(converted):
    report = converted[2].report
    summary, whole = report.summary(), report.to_dict()
    assert set(whole) - set(summary) == {"layers", "neurons"}
    assert all(summary[key] == whole[key] for key in summary if key != "energy")
    for model in whole["energy"]["models"]:
        of_model = summary["energy"]["totals"][model["model"]]
        assert of_model == {name: pytest.approx(sum(cost.values())) for name, cost in model["totals"].items()}


BROKEN = {
    "another schema": lambda d: d.update(schema="snnconvert.report/0"),
    "no schema": lambda d: d.pop("schema"),
    "no totals": lambda d: d.pop("totals"),
    "no layers": lambda d: d.pop("layers"),
    "layers are a number": lambda d: d.update(layers=3),
    "a layer is a number": lambda d: d.update(layers=[3]),
    "a field of a layer is missing": lambda d: d["layers"][0].pop("macs"),
    "an unknown field": lambda d: d.update(colour="red"),
    "an unknown total": lambda d: d["totals"].update(colour="red"),
    "metric is a number": lambda d: d.update(metric=3),
    "metric without interval": lambda d: d.update(metric={"name": "top1", "ann": 1, "snn": 1, "images": 1}),
    "notes are a number": lambda d: d.update(notes=3),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_broken_reports_are_refused(report, change):
    data = copy.deepcopy(report)
    change(data)
    with pytest.raises(ArtifactError) as caught:
        Report.from_dict(data)
    assert "\n" not in str(caught.value)
