import pytest
import torch
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.data.synthetic import dead_leaves
from snnconvert.errors import ConversionError, InputError
from snnconvert.models.digits import BasicBlock

EXAMPLE = torch.zeros(1, 3, 12, 12)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Residual(nn.Module):
    """Two residual blocks, with or without a max-pool, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(BasicBlock(8, 8), nn.MaxPool2d(2), BasicBlock(8, 12, 2))
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def trained_on(images):
    """A network whose BatchNorms hold the statistics of these images."""
    torch.manual_seed(0)
    net = Residual()
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.5, generator=generator)
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def normalized(pixels):
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.fixture(scope="module")
def gaussian_images():
    """White Gaussian noise: nothing like the images that synthesis starts from."""
    noise = torch.randn(256, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    return normalized((0.5 + 0.2 * noise).clamp(0, 1))


@pytest.fixture(scope="module")
def net(gaussian_images):
    return trained_on(gaussian_images)


def thresholds(snn):
    return torch.tensor([layer.threshold for layer in snn.report.layers if not layer.reads_input])


def convert(net, data, **settings):
    return snnconvert.convert(net, data, snnconvert.ConversionConfig(**settings), progress=False)


@pytest.fixture(scope="module")
def without(net):
    return convert(net, snnconvert.NoData(EXAMPLE, MEAN, STD))


def test_thresholds_come_near_those_of_the_training_data(net, without, gaussian_images):
    expected = thresholds(convert(net, gaussian_images))
    found = thresholds(without)
    torch.testing.assert_close(found, expected, rtol=0.25, atol=0)
    assert float((found / expected - 1).abs().mean()) < 0.12
    leaves = normalized(dead_leaves(64, (3, 12, 12), torch.Generator().manual_seed(0)))
    undistilled = thresholds(convert(net, leaves))
    assert float((undistilled / expected - 1).abs().mean()) > 0.5


def test_outputs_on_the_training_data_stay_close(net, without, gaussian_images):
    with torch.no_grad():
        expected, found = net(gaussian_images), without(gaussian_images)
    assert float((found - expected).square().sum() / expected.square().sum()) < 0.01


def test_the_report_says_so(without):
    report = without.report
    assert report.calibration_images == 0
    assert report.fidelity.measured_on == "synthesized images"
    (note,) = report.notes
    assert "without data: on 64 synthesized images (seed 0)" in note
    assert "of 6 BatchNorm layers in 50 steps" in note


def test_the_seed_decides(net, without):
    other = convert(net, snnconvert.NoData(EXAMPLE, MEAN, STD), seed=1)
    assert not torch.equal(thresholds(other), thresholds(without))


def test_it_is_deterministic_whatever_the_example_holds(net, without):
    with torch.no_grad():
        other = convert(net, snnconvert.NoData(torch.randn(5, 3, 12, 12), MEAN, STD))
    assert all(torch.equal(a, b) for a, b in zip(other.buffers(), without.buffers(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    "settings", mostly_slow([{"weight_rounding": "gptq", "weight_bits": 4}, {"neuron": "if", "T": 2}], keep=1)
)
def test_every_repair_runs_on_synthesized_images(net, settings):
    assert convert(net, snnconvert.NoData(EXAMPLE, MEAN, STD), **settings).report.calibration_images == 0


def test_without_batchnorm_the_images_stay_as_they_are():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2)).eval()
    snn = convert(net, snnconvert.NoData(snnconvert.Inputs(EXAMPLE), MEAN, STD))
    leaves = normalized(dead_leaves(64, (3, 12, 12), torch.Generator().manual_seed(0)))
    assert torch.equal(thresholds(snn), thresholds(convert(net, leaves)))
    assert "no BatchNorm statistics" in snn.report.notes[0]


@pytest.mark.parametrize(
    ("channels", "low", "high", "words"),
    [(1, 0.0, 1.0, "values in 0..1 assumed"), (3, -2.12, 2.65, "ImageNet's normalization assumed")],
)
def test_usual_normalization(channels, low, high, words):
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    snn = convert(net, snnconvert.NoData(torch.zeros(1, channels, 32, 32)), threshold="max")
    assert words in snn.report.notes[0]
    (site,) = [layer for layer in snn.report.layers if layer.reads_input]
    # zero points near the middle are moved there, which widens one side
    assert low * 1.3 - 0.1 < -site.step * site.offset <= low + 0.1
    assert high - 0.1 <= site.step * (255 - site.offset) < high * 1.3 + 0.1


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (torch.zeros(2, 9), r"floating-point input \[N, 9\]: only images \[N, C, H, W\]"),
        (torch.zeros(2, 20, 4, 4), "only images of 1 to 16 channels"),
    ],
)
def test_other_inputs_than_images_are_refused(example, words):
    net = nn.Sequential(nn.Flatten(), nn.Linear(example[0].numel(), 3)).eval()
    with pytest.raises(InputError, match=words):
        convert(net, snnconvert.NoData(example))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((EXAMPLE, (0.5,)), "belong together"),
        ((EXAMPLE, (0.5,), (0.0,)), "must be positive"),
        (((3, 12, 12),), "the example is tuple"),
    ],
)
def test_bad_descriptions_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        snnconvert.NoData(*arguments)


def test_a_normalization_of_other_channels_is_refused(net):
    with pytest.raises(InputError, match="1 and 1 values, the images 3 channels"):
        convert(net, snnconvert.NoData(EXAMPLE, (0.5,), (0.5,)))


def test_parts_need_data(net):
    with pytest.raises(InputError, match="parts are calibrated on what the whole model gives"):
        convert(net, snnconvert.NoData(EXAMPLE), parts=("blocks",))


def test_no_loader_names_the_way_without(net):
    with pytest.raises(InputError, match=r"NoneType.*NoData\(example\)"):
        convert(net, None)


def test_weights_that_overflow_are_named(net):
    broken = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).eval()
    nn.init.constant_(broken[0].weight, 3e38)
    with pytest.raises(ConversionError, match="NaN or Inf"):
        convert(broken, snnconvert.NoData(EXAMPLE))
