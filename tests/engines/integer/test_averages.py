"""Averages of bytes: scales against exact fractions, and networks with means whose words are all the same."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_networks import Net, conv
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import snnconvert
from snnconvert.engines.integer.averages import averaged_size, scales_of_average
from snnconvert.engines.integer.dialect import ONNXRUNTIME, OPENVINO
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.neurons.current import PoolGeometry

GAINS = st.floats(2**-30, 2**10, width=32)
SIZES = st.integers(1, 65793)


@given(GAINS, SIZES)
def test_a_kernel_multiplies_by_the_gain(gain, size):
    scales = scales_of_average(gain, size)
    assert scales is not None
    read, returned = (np.float32(scale) for scale in scales)
    assert Fraction(float(read)) == Fraction(scales[0])
    assert float(read / (returned * np.float32(size))) == gain


@pytest.mark.parametrize(("gain", "size"), [(0.0, 49), (-0.5, 49), (0.5, 65794)])
def test_others_have_no_scales(gain, size):
    assert scales_of_average(gain, size) is None


@pytest.mark.parametrize(
    ("geometry", "shape", "size"),
    [
        (PoolGeometry(dims=(2, 3)), (1, 8, 5, 7), 35),
        (PoolGeometry(dims=(-1, -2), keepdim=True), (1, 8, 5, 7), 35),
        (PoolGeometry(dims=(2, 3)), (1, 8, None, None), None),
        (PoolGeometry(dims=(1, 2)), (1, 8, 5, 7), None),
        (PoolGeometry(dims=(2,)), (1, 8, 5, 7), None),
        (PoolGeometry(dims=(1,)), (1, 49, 8), None),
        (PoolGeometry(kernel=(5, 7), stride=(5, 7), padding=(0, 0)), (1, 8, 5, 7), None),
    ],
)
def test_only_whole_images_are_averaged(geometry, shape, size):
    assert averaged_size(geometry, shape) == size


def squeezed(n, x):
    y = F.relu(n.a(x))
    return n.b(y * torch.sigmoid(n.up(F.relu(n.down(F.adaptive_avg_pool2d(y, 1))))))


def flattened(n, x):
    y = torch.tanh(n.a(x))
    return n.b(y * torch.sigmoid(n.wide(y.mean((2, 3))))[:, :, None, None])


def of_the_image(n, x):
    return n.b(F.relu(n.a(x) * torch.sigmoid(n.first(x.mean((2, 3), keepdim=True)))))


def joined(n, x):
    y = torch.cat([F.relu(n.a(x)), F.relu(n.c(x))], 1)
    return n.b(n.mix(y) * torch.sigmoid(n.mix(y.mean((2, 3), keepdim=True))))


def of_two_zero_points(n, x):
    y = torch.cat([F.relu(n.a(x)), torch.tanh(n.c(x))], 1)
    return n.b(n.mix(y) * torch.sigmoid(n.mix(y.mean((2, 3), keepdim=True))))


def maximal(n, x):
    y = F.max_pool2d(F.silu(n.a(x)), 3, 2, 1)
    return n.b(y * torch.sigmoid(n.up(F.relu(n.down(y.mean((2, 3), keepdim=True))))))


def net(forward):
    one = {
        "down": nn.Conv2d(8, 4, 1),
        "up": nn.Conv2d(4, 8, 1),
        "first": nn.Conv2d(3, 8, 1),
        "mix": nn.Conv2d(16, 8, 1),
    }
    layers = {"a": conv(3, 8), "b": conv(8, 8), "c": conv(3, 8), "wide": nn.Linear(8, 8), "head": nn.Linear(8, 5)}
    return Net(lambda n, x: n.head(F.relu(forward(n, x)).mean((2, 3))), **one, **layers)


def spiking(forward, height=12, width=10, **settings):
    torch.manual_seed(0)
    images = torch.randn(32, 3, height, width)
    config = snnconvert.ConversionConfig(**settings)
    return snnconvert.convert(net(forward).eval(), images, config, progress=False), images


def averages(snn, dialect=ONNXRUNTIME):
    model = integer_model(snn.network, snn.signature, dialect).model
    return [node.op_type for node in model.graph.node].count("GlobalAveragePool")


SETTINGS = [
    {},
    {"bits": 1},
    {"residuals": "spikes", "function_grid": "bytes"},
    {"threshold_granularity": "channel"},
    {"threshold_granularity": "channel", "channel_shift": True, "weight_bits": 4},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("forward", [squeezed, flattened, of_the_image, joined, of_two_zero_points, maximal])
def test_no_word_differs(forward, settings):
    snn, images = spiking(forward, **settings)
    fast = snn.compile("onnxruntime", threads=1, cache=False)
    assert all(layer.mismatches == 0 for layer in fast.agreement(images))
    torch.testing.assert_close(fast(images), snn(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("forward", [squeezed, flattened, joined])
def test_onnxruntime_averages_bytes(forward):
    snn, _ = spiking(forward, residuals="spikes", function_grid="bytes")
    assert averages(snn) == 2
    assert averages(snn, OPENVINO) == 0
    floats = {found.kind for found in snn.compile("onnxruntime", cache=False).float_operations()}
    assert floats <= {"Mul"}  # of the image


def test_images_of_any_size_are_added_up():
    torch.manual_seed(0)
    images = torch.randn(8, 3, 12, 10)
    network = net(squeezed).eval()
    snn = snnconvert.convert(network, images, snnconvert.ConversionConfig(dynamic_sizes=True), progress=False)
    assert averages(snn) == 0
    fast = snn.compile("onnxruntime", threads=1, cache=False)
    for size in (12, 20):
        others = torch.randn(4, 3, size, size)
        torch.testing.assert_close(fast(others), snn(others), rtol=1e-6, atol=1e-6)
