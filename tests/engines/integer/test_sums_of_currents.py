"""Residual sums of currents in OpenVINO: the gain of the neurons behind them multiplies the sum, not its parts."""

import pytest
import torch
from integer_networks import compared

import snnconvert
from benchmarks.random_networks import RandomImages, build_network


def test_words_behind_sums_of_large_currents_are_the_same():
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    images = RandomImages(8, 8, 112, seed=2)
    snn = snnconvert.convert(build_network("resnet18"), images, snnconvert.ConversionConfig(), progress=False)
    assert compared(snn, torch.randn(2, 3, 112, 112), "openvino").differing == {}
