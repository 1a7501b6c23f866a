"""Convolutions with strides that read blocks of pixels: the same sums, found where they can be, and nowhere else."""

import pytest
import torch
import torch.nn.functional as F
from engine_networks import Net, conv
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import SHIFTED, compared
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.engines.integer.dialect import DIALECTS
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.pixel_blocks import blocks_for, pixel_blocks
from snnconvert.neurons.synapse import ConvGeometry

BY_CHANNEL = {"threshold_granularity": "channel"}
STEMS = {
    "7x7": {"kernel_size": 7, "stride": 2, "padding": 3},
    "3x3": {"kernel_size": 3, "stride": 2, "padding": 1},
    "3x3 without padding": {"kernel_size": 3, "stride": 2},
    "2x2": {"kernel_size": 2, "stride": 2, "padding": 1},
    "1x1": {"kernel_size": 1, "stride": 2},
    "5x3 by 4": {"kernel_size": (5, 3), "stride": 4, "padding": (2, 1)},
}


def converted(stem, images=None, behind=nn.ReLU, **config):
    torch.manual_seed(0)
    net = nn.Sequential(
        stem, behind(), conv(stem.out_channels, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    images = torch.randn(8, stem.in_channels, 16, 24) if images is None else images
    settings = snnconvert.ConversionConfig(**config)
    return snnconvert.convert(net.eval(), images, settings, progress=False), images


def operators(snn):
    model = integer_model(snn.network, snn.signature, DIALECTS["onnxruntime"]).model
    return [node.op_type for node in model.graph.node]


@settings(deadline=None, max_examples=200)
@given(
    side=st.integers(2, 4),
    kernel=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    channels=st.integers(1, 4),
    rows=st.integers(4, 6),
    seed=st.integers(0, 2**31),
)
def test_sums_over_blocks_are_those_over_pixels(side, kernel, padding, channels, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(-9, 9, (2, channels, rows * side, (rows + 1) * side), generator=generator).double()
    weight = torch.randint(-9, 9, (3, channels, *kernel), generator=generator).double()
    blocks = blocks_for(kernel, ConvGeometry((side, side), padding, (1, 1), 1), images.shape[2:])
    split = images.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    above, left, below, right = blocks.pads
    found = F.conv2d(F.pad(split, (left, right, above, below)), blocks.kernel(weight))
    assert torch.equal(found, F.conv2d(images, weight, None, side, padding))
    assert found.shape[2:] == blocks.size
    assert torch.equal(blocks.pixels(split), images)


@pytest.mark.parametrize("name", mostly_slow(STEMS, keep=["7x7", "3x3"]))
@pytest.mark.parametrize("config", mostly_slow([{}, BY_CHANNEL, SHIFTED, {"bits": 1, "T": 4}], keep=[BY_CHANNEL]))
def test_words_and_outputs_are_the_same(name, config):
    snn, images = converted(nn.Conv2d(3, 6, **STEMS[name]), **config)
    assert operators(snn).count("SpaceToDepth") == 1
    found = compared(snn, images, "onnxruntime")
    assert found.differing == {}
    compiled = snn.compile(threads=1, cache=False)
    torch.testing.assert_close(compiled(images[:3]), snn(images[:3]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("stem", "size"),
    [
        (nn.Conv2d(3, 6, 3, 1, 1), (16, 16)),
        (nn.Conv2d(3, 6, 3, (2, 1), 1), (16, 16)),
        (nn.Conv2d(3, 6, 3, 2, 1, dilation=2), (16, 16)),
        (nn.Conv2d(3, 6, 3, 2, 1, groups=3), (16, 16)),
        (nn.Conv2d(5, 6, 3, 2, 1), (16, 16)),
        (nn.Conv2d(3, 6, 3, 2, 1), (15, 16)),
        (nn.Conv2d(3, 6, 3, 2, 1), (16, 17)),
    ],
    ids=["no stride", "two strides", "gaps", "groups", "many channels", "odd height", "odd width"],
)
def test_other_convolutions_read_pixels(stem, size):
    snn, _ = converted(stem, torch.randn(8, stem.in_channels, *size))
    assert pixel_blocks(snn.network, snn.signature) == {}


def test_images_of_any_size_are_read_as_pixels():
    snn, _ = converted(nn.Conv2d(3, 6, 3, 2, 1), dynamic_sizes=True)
    assert pixel_blocks(snn.network, snn.signature) == {}
    assert "SpaceToDepth" not in operators(snn)


def test_words_that_others_read_too_stay_pixels():
    torch.manual_seed(0)
    images = torch.randn(8, 3, 16, 16)
    net = Net(
        lambda n, x: n.fc((F.relu(n.stem(x)) + F.relu(n.other(x))).mean((2, 3))),
        stem=nn.Conv2d(3, 6, 3, 2, 1), other=nn.Conv2d(3, 6, 2, 2), fc=nn.Linear(6, 5),
    )  # fmt: skip
    snn = snnconvert.convert(net.eval(), images, progress=False)
    assert "SpaceToDepth" not in operators(snn)
    assert compared(snn, images, "onnxruntime").differing == {}


def test_convolutions_in_floating_point_read_pixels():
    snn, images = converted(nn.Conv2d(3, 6, 3, 2, 1), behind=nn.SiLU)
    assert "SpaceToDepth" not in operators(snn)
    assert compared(snn, images, "onnxruntime").differing == {}


class ReturnsItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(F.relu(self.stem(x)).mean((2, 3))), x


def test_images_that_are_returned_too():
    torch.manual_seed(0)
    images = torch.randn(8, 3, 16, 16)
    snn = snnconvert.convert(ReturnsItsInput().eval(), images, progress=False)
    assert len(pixel_blocks(snn.network, snn.signature)) == 1
    logits, returned = snn.compile(threads=1, cache=False)(images)
    torch.testing.assert_close(logits, snn(images)[0], rtol=1e-6, atol=1e-6)
    assert torch.equal(returned, images)
