"""A network in training mode computes what it computes in evaluation mode, bit for bit, before and after it learns."""

import copy

import pytest
import torch
from slow_cases import mostly_slow
from trainable_networks import converted, digits, learn, network, output

import snnconvert

SETTINGS = {
    "default": {},
    "bits": {"bits": 1, "T": 4},
    "bursts": {"bits": 2, "T": 2, "weight_bits": 4},
    "smoothed": {"threshold_granularity": "smoothed", "channel_shift": True},
    "narrow": {"weight_bits": 2, "bits": 2, "T": 1},
    "signs": {"weight_bits": 1},
    "spiking residuals": {"residuals": "spikes"},
    "groups": {"weight_bits": 3, "weight_granularity": "group", "weight_group": 2},
}
CASES = [
    *(("resnet", kind) for kind in SETTINGS), ("depthwise", "smoothed"), ("depthwise", "signs"), ("gelu", "default"),
    ("gelu", "narrow"), ("transposed", "bursts"), ("transposed", "groups"), ("partial sums", "default"),
    ("partial sums", "smoothed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    mostly_slow(
        CASES,
        keep=[
            ("resnet", "bits"),
            ("gelu", "default"),
            ("transposed", "bursts"),
            ("depthwise", "smoothed"),
            ("resnet", "spiking residuals"),
            ("partial sums", "smoothed"),
        ],
    ),
)
def test_training_and_integers_agree_before_and_after(name, kind):
    snn, images = converted(name, **SETTINGS[kind])
    before = output(snn, images)
    assert torch.equal(output(snn.train(), images), before)
    assert torch.equal(output(snn.eval(), images), before)
    losses = learn(snn.train(), images)
    learned = output(snn, images)
    assert losses[-1] != losses[0]
    assert not torch.equal(learned, before)
    assert torch.equal(output(snn.eval(), images), learned)
    assert torch.equal(output(snn.train(), images), learned)


@pytest.mark.parametrize("name", ["digits", pytest.param("vit", marks=pytest.mark.slow)])
def test_starts_with_what_larger_networks_give(name):
    snn, images = converted(name)
    before = output(snn, images)
    assert torch.equal(output(snn.train(), images), before)
    assert torch.equal(output(snn.eval(), images), before)


@pytest.mark.parametrize("name", mostly_slow(["digits", "resnet", "gelu"], keep=["gelu"]))
def test_what_was_learned_is_saved_and_compiled(name, tmp_path):
    snn, images = converted(name)
    learn(snn.train(), images)
    learned = output(snn, images)
    snn.finish_training()
    assert not list(snn.parameters())
    snn.save(tmp_path / "snn")
    assert torch.equal(output(snnconvert.load(tmp_path / "snn"), images), learned)
    assert torch.equal(snn.simulate(images).output, learned)
    assert torch.equal(snn.compile("onnxruntime", threads=1, cache=False)(images), learned)


def test_what_one_bit_weights_learn_is_compiled():
    snn, images = converted("depthwise", weight_bits=1)
    learn(snn.train(), images)
    learned = output(snn, images)
    assert torch.equal(snn.eval().compile("onnxruntime", threads=1, cache=False)(images), learned)


@pytest.mark.slow
def test_a_vision_transformer_learns():
    snn, images = converted("vit")
    learn(snn.train(), images)
    learned = output(snn, images)
    assert torch.equal(output(snn.eval(), images), learned)


def test_widths_by_group_are_kept():
    ann, images = network("resnet")
    config = snnconvert.ConversionConfig(budget=12, bits=2, T=2)
    snn = snnconvert.convert(ann, images, config, progress=False)
    widths = {layer: synapse.widths.clone() for layer, synapse in snn.synapses()}
    before = output(snn, images)
    assert torch.equal(output(snn.train(), images), before)
    learn(snn, images, rate=0.05)
    learned = output(snn, images)
    assert torch.equal(output(snn.eval(), images), learned)
    for layer, synapse in snn.synapses():
        largest = (2 ** (widths[layer] - 1) - 1).clamp(min=1)
        assert torch.equal(synapse.widths, widths[layer])
        assert (synapse.weight.abs().flatten(1).amax(1) <= largest).all(), layer


@pytest.mark.parametrize("neuron", mostly_slow(["packed", "if"], keep=["packed"]))
def test_copies_learn_apart(neuron):
    snn, images = converted("resnet", neuron=neuron, bits=1, T=4)
    snn.train()
    twin = copy.deepcopy(snn)
    before = output(snn, images)
    learn(twin, images)
    assert torch.equal(output(snn, images), before)
    assert not torch.equal(output(twin, images), before)
    learned = output(twin, images)
    assert torch.equal(output(twin.eval(), images), learned)
    assert torch.equal(output(snn.eval(), images), before)


def test_parameters_go_from_one_network_to_its_twin():
    snn, images = converted("resnet")
    twin, _ = converted("resnet")
    learn(snn.train(), images)
    twin.train().trainable.load_state_dict(snn.trainable.state_dict())
    assert torch.equal(output(twin, images), output(snn, images))
    assert torch.equal(output(twin.eval(), images), output(snn.eval(), images))


def test_changing_modes_changes_nothing():
    snn, images = converted("resnet", bits=2, T=2)
    learn(snn.train(), images)
    learned = output(snn, images)
    parameters = [parameter.detach().clone() for parameter in snn.parameters()]
    for _ in range(2):
        snn.eval()
        integers = [buffer.clone() for buffer in snn.network.buffers()]
        snn.eval()
        assert all(map(torch.equal, snn.network.buffers(), integers))
        assert torch.equal(output(snn.train(), images), learned)
        assert all(map(torch.equal, snn.parameters(), parameters))


def test_learns_digits():
    images, labels = digits()
    snn, _ = converted("digits", bits=1, T=1)
    losses = learn(snn.train(), images[:128], 6, 2e-3, labels[:128])
    assert losses[-1] < 0.4 * losses[0]
