"""Figures and definitions the papers print, from the networks they print them for."""

import math

import pytest
import timm
import torch
import torchvision
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.energy.cost import Network


@pytest.mark.slow
def test_effort_of_resnet34_at_a_bit_budget_of_64():
    """S-ACE 234 G: 3.66 GMAC at 8/2/4, 224 pixels (Shen et al., CVPR 2024)."""
    network = timm.create_model("resnet34", pretrained=False).eval()
    plan = snnconvert.plan(network, torch.randn(2, 3, 224, 224))
    assert plan.coverage == 1
    assert plan.bit_budget == 64
    assert sum(item.macs * item.bit_budget for item in plan.synapses) == pytest.approx(234e9, rel=5e-3)


@pytest.mark.parametrize(
    ("weight_bits", "bits", "T", "budget"),
    mostly_slow(
        [(8, 8, 1, 64), (8, 4, 1, 32), (4, 2, 2, 16), (4, 4, 1, 16), (1, 4, 1, 4), (1, 2, 2, 4), (1, 1, 4, 4)],
        keep=[(8, 8, 1, 64), (4, 2, 2, 16), (1, 1, 4, 4)],
    ),
)
def test_rows_of_bit_budgets(weight_bits, bits, T, budget):
    """The b_w/b_s/T of Shen et al. (CVPR 2024): rows of one budget have one S-ACE."""
    config = snnconvert.ConversionConfig(
        bits=bits,
        T=T,
        weight_bits=weight_bits,
        first_last_weight_bits=weight_bits,
        input_bits=bits * T,
        last_bits=bits * T,
    )
    network = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 6)).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        snn = snnconvert.convert(network, torch.randn(8, 12), config, progress=False)
    totals = snn.report.totals
    assert totals.s_ace == (12 * 20 + 20 * 6) * budget
    assert totals.bit_budget == totals.largest_bit_budget == budget


@pytest.fixture(scope="module")
def cifar_resnet18():
    """ResNet-18 for 32 pixels, as Yao et al. train it."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = torchvision.models.resnet18(num_classes=10)
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        images = torch.randn(4, 3, 32, 32)
    config = snnconvert.ConversionConfig(bits=2, T=2, weight_bits=4, overrides={r"layer4\..*": {"weight_bits": 3}})
    snn = snnconvert.convert(network.eval(), images, config, progress=False)
    return network, snn.report


def test_effort_of_every_layer_of_resnet18(cifar_resnet18):
    """S-ACE = Σ_t b_s·b_w·OPs, NS-ACE = S-ACE·fr, OPs = ⌈(H + 2p − k + 1)/stride⌉²·k²·C_in·C_out (Yao et al.)."""
    network, report = cifar_resnet18
    modules = dict(network.named_modules())
    sizes = {"layer1": 32, "layer2": 16, "layer3": 8, "layer4": 4}
    checked = 0
    for layer in report.layers:
        module = modules[layer.name]
        if not isinstance(module, nn.Conv2d) or layer.reads_input:
            continue
        stride, kernel, padding = module.stride[0], module.kernel_size[0], module.padding[0]
        height = sizes[layer.name.split(".")[0]] * stride
        places = math.ceil((height + 2 * padding - (kernel - 1)) / stride) ** 2
        operations = places * kernel**2 * module.in_channels * module.out_channels
        assert layer.s_ace == sum(layer.spike_bits * layer.weight_bits * operations for _ in range(layer.T))
        assert layer.ns_ace == pytest.approx(layer.s_ace * layer.firing_rate)
        checked += 1
    assert checked == 19
    assert {layer.weight_bits for layer in report.layers if layer.name.startswith("layer4")} == {3}


def test_the_bit_budget_is_the_product_of_weighted_means(cifar_resnet18):
    """b_w weighted by numbers of weights, b_s and T by those of features (Yao et al.)."""
    network, report = cifar_resnet18
    seen = {}

    def count(name):
        return lambda module, inputs: seen.update({name: (inputs[0][0].numel(), module.weight.numel())})

    modules = dict(network.named_modules())
    handles = [modules[layer.name].register_forward_pre_hook(count(layer.name)) for layer in report.layers]
    network(torch.zeros(1, 3, 32, 32))
    for handle in handles:
        handle.remove()

    def mean(value, of):
        return sum(value(layer) * seen[layer.name][of] for layer in report.layers) / sum(
            seen[layer.name][of] for layer in report.layers
        )

    expected = (
        mean(lambda layer: layer.weight_bits, 1)
        * mean(lambda layer: layer.spike_bits, 0)
        * mean(lambda layer: layer.T, 0)
    )
    assert report.totals.bit_budget_of_means == pytest.approx(expected)


def test_energies_are_those_of_the_layers_by_hand(cifar_resnet18):
    """Spatial dataflow (Yan et al., v1), each layer from its row alone."""
    _, report = cifar_resnet18
    (result,) = [item for item in report.energy.models if item.model == "spatial"]
    for layer in report.layers:
        planes, rate = layer.T * layer.spike_bits, 1 - layer.bit_sparsity
        read = 2.5 * layer.weight_bits
        serial = layer.macs * (planes * rate * (read + 0.03) + planes * (2 * 20 + 2 * 0.03) / layer.fan_in)
        mac = 0.2 * layer.weight_bits * math.log2(layer.levels) / 64 + 0.03
        twin = layer.macs * (1 - layer.word_sparsity) * (read + mac)
        assert result.layers[layer.name][Network.SNN_SERIAL.value] == pytest.approx(serial)
        assert result.layers[layer.name][Network.TWIN_QNN.value] == pytest.approx(twin)
    currents = report.totals.integer_operations * (0.03 + 3 * 20) + report.totals.real_operations * (4.6 + 3 * 80)
    assert result.totals["snn_serial"].total == pytest.approx(
        sum(costs["snn_serial"] for costs in result.layers.values()) + currents
    )
