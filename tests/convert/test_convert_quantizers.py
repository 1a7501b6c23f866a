"""Quantizers a network brings along: found, and their grids used as they are."""

import pytest
import torch
from graph_helpers import Net, plan_of
from torch import nn

import snnconvert

X = torch.randn(16, 3, 8, 8)


def rounded(x, step, zero, low=0, high=255):
    return (torch.clamp(torch.round(x / step) + zero, low, high) - zero) * step


def network():
    def forward(n, x):
        x = rounded(n.a(rounded(x, 0.03, 128)).relu(), 0.02, 0)
        y = rounded(n.b(x), 0.015, -3, -128, 127)
        y = rounded((x + y).relu(), 0.03, -128, -128, 127)
        return n.c(rounded(torch.sigmoid(n.b(y)), 1 / 256, 0))

    return Net(forward, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 4, 3, padding=1), c=nn.Conv2d(4, 5, 3))


def test_grids_are_found():
    grids = [site.grid for site in plan_of(network(), X).sites]
    assert grids == [
        (0.03, 128, 0, 255), (0.02, 0, 0, 255), (0.015, -3, -128, 127), (0.03, -128, -128, 127), (1 / 256, 0, 0, 255),
    ]  # fmt: skip


def test_grids_become_thresholds_and_the_network_keeps_its_values():
    net = network()
    snn = snnconvert.convert(net, X, progress=False)
    steps = {layer.name: (layer.step, layer.offset) for layer in snn.report.layers}
    assert steps["a"] == (0.03, 128)
    assert steps["b"] == (0.02, 0)
    assert steps["c"] == (1 / 256, 0)
    with torch.no_grad():
        expected, actual = net(X), snn(X)
    assert float((expected - actual).square().sum() / expected.square().sum()) < 10**-4.2
    assert torch.equal(snn.simulate(X[:2]).output, snn(X[:2]))


@pytest.mark.parametrize("bits", [1, 2])
def test_smaller_budgets_are_calibrated_anew(bits):
    snn = snnconvert.convert(network(), X, snnconvert.ConversionConfig(bits=bits, T=2), progress=False)
    assert all(layer.step != 0.02 for layer in snn.report.layers)


def test_rounding_alone_is_no_quantizer():
    net = Net(lambda n, x: n.b(torch.round(n.a(x)) * 0.5), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1))
    assert [site.grid for site in plan_of(net, X).sites] == [None, None]


ALMOST_QUANTIZERS = {
    "no largest": lambda u: torch.clamp(u + 3.0, 0.0) - 3.0,
    "no smallest": lambda u: torch.clamp(u + 3.0, max=7.0) - 3.0,
    "zero times two": lambda u: torch.clamp(torch.add(u, 2.0, alpha=2), 0.0, 7.0) - 2.0,
}


@pytest.mark.parametrize("name", ALMOST_QUANTIZERS)
def test_half_a_quantizer_is_none(name):
    def forward(n, x):
        return n.b(ALMOST_QUANTIZERS[name](torch.round(n.a(x) * 4.0)) * 0.25)

    net = Net(forward, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1))
    assert [site.grid for site in plan_of(net, X).sites] == [None, None]


def torch_quantizers():
    def forward(n, x):
        x = torch.fake_quantize_per_tensor_affine(x, 0.03, 128, 0, 255)
        weight = torch.fake_quantize_per_channel_affine(
            n.a.weight, n.scales, torch.zeros(4, dtype=torch.int32), 0, -127, 127
        )
        x = torch.nn.functional.conv2d(x, weight, n.a.bias).relu()
        return n.b(torch.fake_quantize_per_tensor_affine(x, n.scales[:1], torch.zeros(1, dtype=torch.int32), 0, 255))

    net = Net(forward, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 5, 3))
    net.register_buffer("scales", torch.tensor([0.02, 0.01, 0.03, 0.05]))
    return net


def test_the_quantizers_of_torch_are_grids():
    net = torch_quantizers()
    grids = [site.grid for site in plan_of(net, X).sites]
    assert grids == [(0.03, 128, 0, 255), (pytest.approx(0.02), 0, 0, 255)]
    snn = snnconvert.convert(net, X, progress=False)
    with torch.no_grad():
        expected = net(X)
        assert (snn(X) - expected).square().sum() < 1e-3 * expected.square().sum()
