from functools import cache, partial

import pytest
import torch
from slow_cases import mostly_slow

from benchmarks.cifar_resnet import load_cifar_images, load_cifar_resnet
from benchmarks.real_data import data_folder
from snnconvert.config import ConversionConfig
from snnconvert.conversion import convert_whole
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.models.reproducible import reproducible
from snnconvert.models.small.cifar_resnet import CifarResNet, resnet20
from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.network import carry_weights
from snnconvert.models.small.resnet import resnet18, sew_resnet18, sew_resnet34
from snnconvert.models.small.spikformer import spikformer
from snnconvert.models.small.vgg import vgg8, vgg16
from snnconvert.training.direct.fit import FitSettings, fit
from snnconvert.training.direct.settings import NeuronSettings

NETWORKS = {
    "vgg16": (vgg16, 4),
    "vgg8": (vgg8, 4),
    "resnet18": (resnet18, 4),
    "sew_resnet18": (sew_resnet18, 4),
    "resnet20": (resnet20, 4),
    "spikformer": (partial(spikformer, depth=1, heads=2), 16),
}
_SLOW_TO_CONVERT = sorted(NETWORKS.keys() - {"vgg8", "spikformer"})
NEURONS = (NeuronSettings("if", 1, 4), NeuronSettings("lif", 2, 2, truncation=1), NeuronSettings("packed", 2, 2))


def built(name, form, *args, **fields):
    build, width = NETWORKS[name]
    return build(SmallNetConfig(form, *args, width=width, **fields))


def patches(count, seed):
    """Images of 4×4 coloured squares: unlike noise, their mean differs from image to image."""
    colours = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(colours, 32)


@cache
def settled_ann(name):
    """Has learned a little: which of three colours is the brightest."""
    images = patches(192, 0)
    with reproducible(0):
        ann = built(name, "ann")
        fit(ann, images, images.mean((2, 3)).argmax(1), FitSettings(epochs=4, batch_size=24, learning_rate=5e-3))
    return ann


def decibels(signal, other):
    centred = signal - signal.mean(0)
    return (10 * torch.log10(centred.square().sum() / (signal - other).square().sum())).item()


@pytest.mark.parametrize(
    ("network", "millions"),
    [(resnet20, 0.269722), (resnet18, 11.173962), (sew_resnet18, 11.173962), (sew_resnet34, 21.282122),
     (partial(spikformer, depth=4), 9.32), (vgg16, 15.253578)],
)  # fmt: skip
def test_sizes_are_the_published_ones(network, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in network(SmallNetConfig("ann")).parameters()) / 1e6

    assert count == pytest.approx(millions, rel=2e-3)


_MARKS = dict.fromkeys(("resnet18", "sew_resnet18", "sew_resnet34", "vgg16"), pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=_MARKS.get(name, ())) for name in NETWORKS])
def test_all_forms_have_the_same_weights_and_learn_all_of_them(name):
    ann = settled_ann(name)
    images = patches(2, 99)
    forms = [built(name, "qnn", 1, NeuronSettings("packed", 2, 1))] + [built(name, "snn", 1, n) for n in NEURONS]
    for network in forms:
        names = {key for key in network.state_dict() if not key.endswith("log_threshold")}
        assert names == ann.state_dict().keys()
        carry_weights(ann, network)
        for key, value in ann.state_dict().items():
            assert torch.equal(network.state_dict()[key], value)
        logits = network(images)
        assert logits.shape == (2, 10)
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        ["vgg8", "spikformer", *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOW_TO_CONVERT)], keep=1
    ),
)
def test_the_ann_form_converts(name):
    ann = settled_ann(name)
    images = patches(12, 99)
    snn = convert_whole(ann, images, ConversionConfig(bits=8, T=1, weight_bits=8), progress=False)
    assert snn.report.coverage.macs_on_spikes == 1.0
    with torch.no_grad():
        assert decibels(ann(images), snn(images)) > 20


@pytest.mark.parametrize("name", mostly_slow(NETWORKS, keep=["vgg16"]))
def test_wide_quantized_networks_come_close_to_the_ann(name):
    ann = settled_ann(name)
    wide = built(name, "qnn", 8, NeuronSettings("packed", 8, 1, threshold=0.04)).eval()
    narrow = built(name, "qnn", 2, NeuronSettings("packed", 1, 1)).eval()
    images = patches(12, 99)
    for network in (wide, narrow):
        carry_weights(ann, network)
    with torch.no_grad():
        truth = ann(images)
        assert decibels(truth, wide(images)) > 8
        assert decibels(truth, wide(images)) > decibels(truth, narrow(images)) + 5


@pytest.mark.parametrize("name", NETWORKS)
def test_a_packed_network_is_the_quantized_one_of_all_its_bits(name):
    ann = settled_ann(name)
    packed = built(name, "snn", 4, NeuronSettings("packed", 1, 4)).eval()
    quantized = built(name, "qnn", 4, NeuronSettings("packed", 4, 1)).eval()
    images = patches(3, 99)
    for network in (packed, quantized):
        carry_weights(ann, network)
    with torch.no_grad():
        assert torch.equal(packed(images), quantized(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_is_a_current_that_stays(name):
    network = built(name, "snn", 4, NeuronSettings("if", 1, 3)).eval()
    carry_weights(settled_ann(name), network)
    images = patches(3, 99)
    with torch.no_grad():
        held = network(images.expand(3, *images.shape))
        torch.testing.assert_close(network(images), held, atol=1e-4, rtol=1e-4)


def test_frames_arrive_in_their_order():
    network = built("vgg8", "snn", 4, NeuronSettings("lif", 1, 4)).eval()
    carry_weights(settled_ann("vgg8"), network)
    frames = torch.randn(4, 2, 3, 32, 32)
    with torch.no_grad():
        forward, backward = network(frames), network(frames.flip(0))
        one = network(frames[:, :1])
    assert (forward - backward).abs().max() > 1e-3
    torch.testing.assert_close(one, forward[:1], atol=1e-4, rtol=1e-4)


def test_networks_without_steps_see_the_mean_frame():
    frames = torch.randn(5, 2, 2, 32, 32)
    for form, neuron in (("ann", NEURONS[0]), ("snn", NEURONS[2])):
        network = built("resnet20", form, neuron=neuron, in_channels=2).eval()
        with torch.no_grad():
            torch.testing.assert_close(network(frames), network(frames.mean(0)))


def test_sew_shortcuts_carry_spikes():
    torch.manual_seed(0)
    network = built("sew_resnet18", "snn", 1, NeuronSettings("if", 1, 2, threshold=1.0, learned_threshold=False))
    sums = []
    for block in network.layer1:
        block.register_forward_hook(lambda _block, _inputs, out: sums.append(out))
    network(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(out, out.round()) for out in sums)
    assert [int(out.max()) <= depth + 2 for depth, out in enumerate(sums)] == [True, True]
    assert sums[1].max() > 1


@pytest.mark.parametrize("size", [34, 48])
def test_other_sizes_and_polarities(size):
    frames = torch.randn(2, 2, 2, size, size)
    for name in ("vgg16", "resnet18", "resnet20", "spikformer"):
        network = built(name, "snn", 1, NeuronSettings("if", 1, 2), in_channels=2, classes=7).eval()
        assert network(frames).shape == (2, 7)


def test_first_and_last_layers_have_their_own_bits():
    network = built("resnet20", "snn", 1, NEURONS[0], first_last_weight_bits=8)
    assert network.conv1.weight_bits == network.linear.weight_bits == 8
    assert network.layer1[0].conv1.weight_bits == 1


def test_a_public_checkpoint_fits_the_ann():
    folder = data_folder("cifar10")
    if folder is None:
        pytest.skip("no cifar10 data")
    images, labels = load_cifar_images(folder, "test", 200)
    network = load_cifar_resnet(folder, 20)
    assert isinstance(network, CifarResNet)
    with torch.no_grad():
        assert (network(images).argmax(1) == labels).double().mean() > 0.88


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"form": "bnn"}, "one of ann"), ({"weight_bits": 0}, "weight_bits"), ({"classes": 0}, "classes"),
     ({"form": "qnn"}, "set T to 1"), ({"neuron": "if"}, "NeuronSettings"), ({"width": -1}, "width"),
     ({"first_last_weight_bits": 9}, "first_last_weight_bits")],
)  # fmt: skip
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        SmallNetConfig(**fields)


def test_bad_topologies_and_inputs_are_refused():
    with pytest.raises(ConfigurationError, match="6n"):
        CifarResNet(SmallNetConfig("ann"), 21)
    with pytest.raises(ConfigurationError, match="multiple"):
        spikformer(SmallNetConfig("ann", width=20))
    with pytest.raises(ConfigurationError, match="pools"):
        spikformer(SmallNetConfig("ann", width=24), pools=5)
    network = built("vgg8", "snn", 1, NEURONS[0])
    with pytest.raises(InputError, match="T = 4, got 3 frames"):
        network(torch.zeros(3, 2, 3, 32, 32))
    with pytest.raises(InputError, match=r"\[3, 32, 32\]"):
        network(torch.zeros(3, 32, 32))
    with pytest.raises(InputError, match="only one of the two"):
        carry_weights(built("vgg16", "ann"), network)
    with pytest.raises(InputError, match="is \\[8, 3, 3, 3\\]"):
        carry_weights(vgg8(SmallNetConfig("ann", width=8)), network)


def test_the_budget_is_told():
    config = SmallNetConfig("snn", 2, NeuronSettings("if", 3, 4))
    assert (config.setting, config.bit_budget, config.steps) == ("2/3/4", 24, 4)
    assert SmallNetConfig("snn", 2, NeuronSettings("packed", 2, 4)).steps == 1
    assert SmallNetConfig("ann").setting == "ann"
