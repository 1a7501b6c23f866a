"""Networks of learned widths: what they compute, what is learned, and what settles."""

import dataclasses

import pytest
import torch
from learned_bits_networks import Attention, Residual, Upsampling, images_for, learner, output_of, seeded
from slow_cases import mostly_slow

import snnconvert
from snnconvert.allocation.twin import Quantization, Twin
from snnconvert.errors import ConfigurationError
from snnconvert.training.learned_bits.config import LearnedBitsConfig


def steps_of(network, images, optimizer, count):
    network.train()
    for index in range(count):
        loss = network(images)[0].square().mean() + network.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.after_step((index + 1) / count)


def adam(network, rate=1e-3):
    groups = network.parameter_groups()
    return torch.optim.Adam([{"params": group["params"], "lr": rate * group["lr_multiplier"]} for group in groups])


@pytest.mark.parametrize("kind", mostly_slow([Residual, Attention, Upsampling], keep=[Attention, Upsampling]))
def test_it_computes_what_the_ann_with_quantized_weights_and_values_does(kind):
    network, _ = learner(kind)
    images = images_for(kind, 8)
    with torch.no_grad():
        weights = {name: network.eval().quantized_weight(name) for name in network.weights}
    twin = Twin(network.prepared.graph, network.prepared.plan, network.prepared.channels)
    expected = twin.run_from_start((images,), Quantization(network.thresholds, weights))[0]
    assert (output_of(network, images) - expected).norm() < 2e-3 * expected.norm()  # values between two levels


def test_eight_bits_are_nearly_the_ann():
    network, _ = learner(Residual, bits=8, weight_bits=8)
    images = images_for(Residual)
    expected = seeded(Residual)(images)
    assert (output_of(network.eval(), images) - expected).norm() < 0.02 * expected.norm()


def test_first_and_last_layers_are_not_learned():
    network, _ = learner(Residual)
    learned = {item.layer: item.learned for item in network.allocation()}
    assert learned == {"stem": False, "one": True, "two": True, "shortcut": True, "three": True, "head": False}
    assert {item.layer: item.weight_bits for item in network.allocation()}["head"] == 8


def test_layers_that_overrides_name_keep_their_widths():
    network, _ = learner(Residual, overrides={"two": {"weight_bits": 5}, "three": {"bits": 3}})
    optimizer = adam(network, 0.02)
    steps_of(network, images_for(Residual), optimizer, 10)
    found = {item.layer: item for item in network.allocation()}
    assert found["two"].weight_bits == 5
    assert found["three"].spike_bits == 3


def test_means_weigh_layers_by_numel_or_by_macs():
    for weighting in ("numel", "macs"):
        network, _ = learner(Residual, LearnedBitsConfig(weighting=weighting), overrides={"two": {"weight_bits": 8}})
        first = next(group for group in network.layout.weights if group.layer == "one")
        index = network.layout.weights.index(first)
        network.weight_widths[index].settle(2)
        counted = {"numel": (432, 48, 288), "macs": (432 * 16, 48 * 16, 288 * 16)}[weighting]
        expected = (2 * counted[0] + 4 * counted[1] + 4 * counted[2]) / sum(counted)
        assert network.budgets().weight_bits == pytest.approx(expected)


def test_the_penalty_is_the_formula():
    config = LearnedBitsConfig(3.0, 2.5, 1.0, weight_penalty=0.2, spike_penalty=0.3, T_penalty=0.4)
    network, _ = learner(Residual, config)
    assert float(network.penalty().detach()) == pytest.approx(0.2 * 1.0 + 0.3 * 1.5 + 0.4 * 0.0)


def test_every_kind_of_parameter_has_a_gradient():
    network, _ = learner(Residual, LearnedBitsConfig(T_penalty=0.1, target_T=2.0))
    network.train()
    (network(images_for(Residual))[0].square().mean() + network.penalty()).backward()
    for group in network.parameter_groups():
        assert all(parameter.grad is not None for parameter in group["params"]), group["name"]
        assert any(float(parameter.grad.abs().max()) > 0 for parameter in group["params"]), group["name"]


def test_a_changed_width_gets_a_new_step_in_training():
    network, _ = learner(Residual)
    item = next(item for item in network.prepared.plan.synapses if item.layer == "two")
    width = network.family_widths[item.family]
    before = float(network.family_step(item.family).detach())
    with torch.no_grad():
        width.bits.value.fill_(2.0)
    network.train()
    network(images_for(Residual))
    after = float(network.family_step(item.family).detach())
    assert after > 2 * before
    assert network.site_of(item.family).fitted.tolist() == [2, 1]


def test_renewals_end_once_a_mean_is_near_and_it_is_late_enough():
    config = LearnedBitsConfig(3.0, 2.0, renewal_share=0.5, settle_share=1.0)
    network, _ = learner(Residual, config)
    for width in network.weight_widths:
        if width.is_learned:
            width.value.data.fill_(3.0)
    network.after_step(0.4)
    assert network.renews_weights
    network.after_step(0.6)
    assert not network.renews_weights
    assert network.renews_spikes


def test_training_reaches_the_targets_and_settles():
    config = LearnedBitsConfig(3.0, 2.5, settle_share=0.7)
    network, _ = learner(Residual, config)
    optimizer = adam(network, 5e-3)
    steps_of(network, images_for(Residual), optimizer, 40)
    found = network.budgets()
    assert network.settled
    assert float(network.penalty()) == 0
    assert 2.0 < found.weight_bits <= 3.0
    assert 1.5 < found.spike_bits <= 2.5
    assert found.T == 1.0
    assert found.bit_budget == pytest.approx(found.weight_bits * found.spike_bits * found.T)


def test_held_widths_stay_while_weights_learn():
    network, _ = learner(Residual, LearnedBitsConfig(learn_widths=False))
    assert {group["name"] for group in network.parameter_groups()} == {"weights", "steps"}
    before = [network.weight_of(name).relative.clone() for name in network.weights]
    steps_of(network, images_for(Residual), adam(network), 3)
    after = [network.weight_of(name).relative for name in network.weights]
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert network.budgets().weight_bits == 4.0


def test_initial_widths_may_differ_from_the_plan():
    network, _ = learner(Residual, LearnedBitsConfig(initial_weight_bits=3, initial_spike_bits=2, initial_T=2))
    found = network.budgets()
    assert (found.weight_bits, found.spike_bits, found.T) == (3.0, 2.0, 2.0)
    network.train()
    network(images_for(Residual))
    item = next(item for item in network.prepared.plan.synapses if item.layer == "two")
    assert network.site_of(item.family).fitted.tolist() == [2, 2]


def test_packed_words_hold_at_most_eight_bits():
    network, _ = learner(Residual, bits=4, T=2)
    for width in network.family_widths.values():
        if width.bits.is_learned:
            width.bits.value.data.fill_(6.0)
            assert width.rounded == (6, 1)


@pytest.mark.parametrize(
    ("settings", "learning", "message"),
    [
        ({"neuron": "lif:leak=0.9"}, {}, "not for lif"),
        ({"neuron": "if:reset=hard"}, {}, "soft reset"),
        ({"bits": 2}, {"target_spike_bits": 6.0}, "out of reach"),
        ({}, {"initial_spike_bits": 5, "initial_T": 2}, "exceed"),
        ({"overrides": {".*": {"bits": 3, "weight_bits": 3}}}, {}, "no widths to learn"),
    ],
)
def test_what_cannot_be_learned_is_refused(settings, learning, message):
    with pytest.raises(ConfigurationError, match=message):
        learner(Residual, LearnedBitsConfig(**learning), **settings)


@pytest.mark.parametrize(
    "given",
    [
        {"target_weight_bits": 0.5},
        {"weight_penalty": -1.0},
        {"settle_share": 1.5},
        {"weighting": "bytes"},
        {"renewal_trials": 1},
        {"initial_T": 0},
        {"learn_widths": 1},
        {"target_T": float("nan")},
    ],
)
def test_settings_are_checked(given):
    with pytest.raises(ConfigurationError, match=next(iter(given))):
        LearnedBitsConfig(**given)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LearnedBitsConfig().target_T = 2.0
    assert snnconvert.ConversionConfig().bits == 2
