"""Whole networks in OpenVINO: gains and biases of neurons behind sums, concats and pools act on these, not on parts."""

import pytest
import torch
from integer_networks import compared
from slow_cases import mostly_slow

import snnconvert
from benchmarks.random_networks import RandomImages, build_network

CASES = [
    ("resnet18", 112, "currents"),
    ("regnetx_002", 112, "spikes"),
    ("ghostnet_100", 112, "currents"),
    ("hrnet_w18_small", 224, "currents"),
    ("repvgg_a2", 112, "spikes"),
    ("densenet121", 224, "currents"),
]


@pytest.mark.parametrize(("name", "side", "residuals"), mostly_slow(CASES, keep=CASES[:2]))
def test_words_and_outputs_are_the_same(name, side, residuals):
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    config = snnconvert.ConversionConfig(residuals=residuals)
    snn = snnconvert.convert(build_network(name), RandomImages(8, 8, side, seed=2), config, progress=False)
    images = torch.randn(2, 3, side, side)
    assert compared(snn, images, "openvino").differing == {}
    expected = snn(images)
    torch.testing.assert_close(snn.compile("openvino", cache=False)(images), expected, rtol=1e-5, atol=1e-5)
