"""Training through time: what runs is the stepwise engine, and gradients go back through its steps."""

import pytest
import torch
from slow_cases import mostly_slow
from trainable_networks import converted, digits, learn, network, output

import snnconvert
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.neurons.leaky import LeakyCode
from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.membrane import Membrane, fired_in_time
from snnconvert.trainable.surrogate import Surrogate

RATE = {
    "if": {"neuron": "if", "bits": 1, "T": 6},
    "bursts": {"neuron": "if", "bits": 2, "T": 3},
    "lif": {"neuron": "lif:leak=0.9", "bits": 1, "T": 6},
    "hard": {"neuron": "if:reset=hard", "bits": 1, "T": 6},
}
EVERYWHERE = [
    *(("resnet", kind) for kind in RATE), ("digits", "if"), ("digits", "lif"), ("depthwise", "if"), ("gelu", "bursts"),
    ("transposed", "lif"), pytest.param("vit", "if", marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    mostly_slow(EVERYWHERE, keep=[("resnet", "lif"), ("resnet", "bursts"), ("transposed", "lif")]),
)
def test_fires_what_the_stepwise_engine_fires(name, kind):
    """Bit for bit: outputs, and the spike count of every neuron of every layer, before and after learning."""
    snn, images = converted(name, **RATE[kind])
    for step in range(2):
        simulation = snn.eval().simulate(images, record=("spikes",))
        snn.train()
        assert snn.gradients.through == "time"
        fired = []
        for _, neuron in snn.trainable.neurons():
            neuron.watchers.append(lambda words, fired=fired: fired.append(words.detach()))
        assert torch.equal(output(snn, images), simulation.output)
        for counts, neurons, record in zip(fired, snn.trainable.neurons(), simulation.layers.values(), strict=True):
            expected = record.spikes.double().sum(0) - neurons[1].neuron.code.offset
            assert torch.equal(counts.double(), expected), neurons[0]
        for _, neuron in snn.trainable.neurons():
            neuron.watchers.clear()
        if step == 0:
            learn(snn, images, 2)


def test_packed_layers_among_others_wait_for_their_window():
    ann, images = network("resnet")
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=4, overrides={r"first\.0": {"neuron": "packed"}})
    snn = snnconvert.convert(ann, images, config, progress=False)
    expected = snn.simulate(images).output
    snn.train()
    assert {type(neuron.neuron.code).__name__ for _, neuron in snn.trainable.neurons()} == {
        "PackedCode", "IntegrateAndFireCode"
    }  # fmt: skip
    assert torch.equal(output(snn, images), expected)
    learn(snn, images, 1)
    assert all(p.grad is not None and p.grad.any() for _, s in snn.trainable.synapses() for p in (s.weight, s.bias))


def test_digits_of_packed_words_carry_the_gradient_of_the_word():
    """A packed network's gradients through time are those of its one pass."""
    snn, images = converted("resnet", bits=1, T=4)
    learn(snn.train(), images, 1)
    gradients = []
    for through in ("window", "time"):
        snn.gradients = Gradients(through)
        snn.zero_grad()
        snn(images).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in snn.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    largest = max(float(gradient.abs().max()) for gradient in gradients[0])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6 * largest)


def _reference(currents, code, surrogate, truncation):
    """The recursion as autograd sees it, potentials in thresholds."""
    leak, rest = getattr(code, "leak", 1.0), code.v0
    potential = torch.full_like(currents[0], code.v0)
    spikes = []
    for step, current in enumerate(currents):
        if truncation and step % truncation == 0:
            potential = potential.detach()
        potential = (potential - rest) * leak + rest + (current + code.constant_current()) / code.T
        spikes.append(surrogate(potential - 1))
        potential = potential - spikes[-1] if code.reset == "soft" else potential * (1 - spikes[-1])
    return torch.stack(spikes)


@pytest.mark.parametrize("truncation", [0, 1, 2, 3, 8])
@pytest.mark.parametrize(
    "code", [IntegrateAndFireCode(1, 6), LeakyCode(1, 6, leak=0.7), IntegrateAndFireCode(1, 6, reset="hard")]
)
@pytest.mark.parametrize("surrogate", [Surrogate("atan"), Surrogate("sigmoid", 3.0), Surrogate("triangle", 0.7)])
def test_membranes_have_the_gradients_of_the_unrolled_recursion(code, truncation, surrogate):
    generator = torch.Generator().manual_seed(3)
    currents = (3 * torch.rand(6, 5, 7, generator=generator, dtype=torch.float64)).requires_grad_()
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    constant = torch.rand(1, 7, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(6, 5, 7, generator=generator, dtype=torch.float64)
    membrane = Membrane(code, Gradients("time", surrogate, truncation))
    spikes = fired_in_time(currents, scale, constant, membrane, torch.float64)
    expected = _reference(currents * scale + constant, code, surrogate, truncation)
    assert torch.equal(spikes, expected)
    assert 0.1 < float(spikes.detach().mean()) < 0.9
    inputs = (currents, scale, constant)
    found = torch.autograd.grad((spikes * weights).sum(), inputs)
    for one, other in zip(found, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def _gradient_of(snn, images, gradients):
    snn.gradients = gradients
    snn.zero_grad()
    snn(images).square().sum().backward()
    return [synapse.weight.grad.clone() for _, synapse in snn.trainable.synapses()]


def test_truncation_cuts_what_comes_from_earlier_steps():
    snn, images = converted("resnet", **RATE["if"])
    snn.train()
    whole, as_long, short = (_gradient_of(snn, images, Gradients("time", truncation=k)) for k in (0, 6, 1))
    assert all(map(torch.equal, whole, as_long))
    assert torch.equal(whole[-1], short[-1]), "behind the last neurons there is no time"
    assert not any(torch.equal(one, other) for one, other in zip(whole[:-1], short[:-1], strict=True))


def test_learns_digits_through_time():
    images, labels = digits()
    snn, _ = converted("digits", neuron="if", bits=1, T=2)
    losses = learn(snn.train(), images[:128], 6, 2e-3, labels[:128])
    assert losses[-1] < 0.4 * losses[0]


def _kept(snn, images):
    """Bytes of all that autograd keeps of a batch."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = snn(images)
    assert result.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values() if tensor.numel() % len(images) == 0)


@pytest.mark.slow
def test_memory_of_a_packed_step_does_not_depend_on_steps():
    sizes, images = {}, torch.randn(13, 3, 8, 8)
    for T in (1, 8):
        for neuron in ("packed", "if"):
            snn, _ = converted("resnet", neuron=neuron, bits=1, T=T, shortcut_bits=1, last_bits=1)
            sizes[neuron, T] = _kept(snn.train(), images)
    assert sizes["packed", 8] == sizes["packed", 1]
    assert sizes["if", 8] > 4 * sizes["if", 1]


def test_one_pass_ignores_when_spikes_come():
    snn, images = converted("resnet", **RATE["if"])
    in_time = output(snn, images)
    snn.train().gradients = Gradients("window")
    one_pass = output(snn, images)
    assert not torch.equal(one_pass, in_time)
    with torch.no_grad():
        assert torch.equal(one_pass, snn.network(images))


def test_other_neurons_are_refused_by_layer():
    snn, _ = converted("resnet", neuron="ternary", bits=1, T=4)
    with pytest.raises(InputError, match="train"):
        _ = snn.gradients
    assert snn.train().gradients == Gradients("window")
    with pytest.raises(ConfigurationError, match=r"if, lif.*window"):
        snn.gradients = Gradients("time")
    assert snn.gradients == Gradients("window")


@pytest.mark.parametrize(
    "settings", [{"through": "space"}, {"truncation": -1}, {"truncation": 1.5}, {"truncation": True}]
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ConfigurationError):
        Gradients(**settings)
