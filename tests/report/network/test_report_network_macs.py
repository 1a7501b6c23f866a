"""Multiply-accumulates against torch's own counter, and against this package's reports."""

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import snnconvert
from snnconvert.data.digits import digits_images, digits_preprocessing
from snnconvert.models.digits import load_digits_net
from snnconvert.report import account


def counted(network, *inputs):
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel, which the counter doesn't know
    try:
        return counted_operations(network, *inputs) / 2 / len(inputs[0])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def counted_operations(network, *inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "options"), [("resnet18", {}), ("convnext_atto", {}), ("vit_tiny_patch16_224", {"img_size": 64})]
)
def test_networks_of_timm(name, options):
    network, images = timm.create_model(name, pretrained=False, **options).eval(), torch.randn(2, 3, 64, 64)
    found = account(network, images)
    assert found.totals.macs == counted(network, images)
    assert all(item.runs == 1 for item in found.analog)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9)),
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 5)),
        (nn.Linear(4, 6), (7, 4)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8)),
    ],
)
def test_layers_of_torch(layer, shape):
    torch.manual_seed(0)
    images = torch.randn(3, *shape)
    assert account(layer.eval(), images).totals.macs == counted(layer, images)


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_of_torch(layer, gates):
    found = account(layer(6, 5, batch_first=True).eval(), torch.randn(3, 7, 6))
    assert sum(item.macs * item.runs for item in found.analog) == 7 * (6 + 5) * 5 * gates


@pytest.fixture(scope="module")
def digits():
    images = digits_images(digits_preprocessing()).calibration
    return torch.stack([images[index][0] for index in range(32)])


@pytest.fixture(scope="module")
def packed(digits):
    config = snnconvert.ConversionConfig(bits=2, T=3, weight_bits=4)
    return snnconvert.convert(load_digits_net(), digits, config, progress=False)


@pytest.fixture(scope="module")
def rate_coded(digits):
    config = snnconvert.ConversionConfig(bits=1, T=5, weight_bits=4, neuron="if")
    return snnconvert.convert(load_digits_net(), digits, config, progress=False)


def assert_equal_layers(layers, expected, fields):
    for layer, other in zip(layers, expected, strict=True):
        for name in fields:
            assert getattr(layer, name) == pytest.approx(getattr(other, name), abs=1e-9), (layer.name, name)


SIZES = ("macs", "inputs", "outputs", "fan_in", "weights", "reads_input", "weight_bits", "bit_budget", "s_ace")
SPIKES = ("T", "spike_bits", "firing_rate", "spikes_per_neuron", "word_sparsity", "bit_sparsity", "ns_ace", "synops")


def test_a_packed_network_has_the_account_of_its_report(digits, packed):
    found, report = account(packed, digits), packed.report
    assert_equal_layers(found.layers, report.layers, (*SIZES, "levels", "word_sparsity", "bit_sparsity"))
    assert [(item.T, item.spike_bits) for item in found.layers] == [(1, x.T * x.spike_bits) for x in report.layers]
    assert found.totals.macs == report.totals.macs
    assert found.totals.s_ace == report.totals.s_ace
    assert found.totals.bit_budget == report.totals.bit_budget
    assert found.coverage == report.coverage


@pytest.mark.parametrize("kind", ["packed", "rate_coded"])
def test_in_time_a_network_has_the_account_of_its_report(digits, kind, request):
    snn = request.getfixturevalue(kind)
    found = account(snn, digits, forward=snn.simulate)
    assert_equal_layers(found.layers, snn.report.layers, SIZES)
    assert_equal_layers(found.layers[1:-1], snn.report.layers[1:-1], SPIKES)
