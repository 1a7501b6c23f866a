"""Landing: the spiking network gives what the trained network gives, in every engine, and after saving."""

import pytest
import torch
from learned_bits_networks import (
    Attention,
    Residual,
    Upsampling,
    calibrated,
    images_for,
    learner,
    output_of,
    seeded,
    synapses_of,
    take_rounded_units,
)
from slow_cases import mostly_slow

import snnconvert
from snnconvert.errors import InputError
from snnconvert.finishing import thresholds_of
from snnconvert.models.digits import load_digits_net
from snnconvert.models.train_digits import digits_tensors
from snnconvert.neurons.weight_integers import nearest_weights, widths_of
from snnconvert.training.learned_bits.config import LearnedBitsConfig
from snnconvert.training.learned_bits.landing import land
from snnconvert.training.learned_bits.learn import LearningSchedule, distillation_loss, learn_bits, train
from snnconvert.training.learned_bits.network import LearnedBitsNetwork

QUICK = LearnedBitsConfig(2.6, 2.6, settle_share=0.5, renewal_trials=20)


def labelled(kind, count=64, batch=16):
    images = images_for(kind, count)
    with torch.no_grad():
        outputs = seeded(kind)(images)
    return list(zip(torch.split(images, batch), torch.split(outputs.flatten(1).argmax(1), batch), strict=True))


def trained(kind, learning=QUICK, **settings):
    network, statistics = learner(kind, learning, **settings)
    train(network, [images for images, _ in labelled(kind)], LearningSchedule(5, 5e-3))
    return network, land(network, statistics)


@pytest.fixture(scope="module")
def residual():
    return trained(Residual)


CASES = [
    (Residual, {"bits": 2, "T": 2}),
    (Residual, {"threshold_granularity": "channel"}),
    (Residual, {"residuals": "spikes"}),
    (Residual, {"neuron": "if", "T": 1}),
    (Upsampling, {}),
    (Upsampling, {"threshold_granularity": "smoothed", "channel_shift": True}),
    (Attention, {"first_last_weight_bits": 6}),
]


@pytest.mark.parametrize(("kind", "settings"), mostly_slow(CASES, keep=[CASES[2], CASES[6]]))
def test_once_scales_are_rounded_to_common_units_the_spiking_network_is_the_trained_one(kind, settings):
    network, snn = trained(kind, **settings)
    images = images_for(kind, 32)
    near = output_of(network, images)
    landed = output_of(snn, images)
    assert (near - landed).norm() < 0.15 * near.norm()
    take_rounded_units(network, snn)
    exact = output_of(network, images)
    rest = 0.03 if kind is Attention else 0.01  # of spikes in sums and zero points; GELU is a table there
    assert (exact - landed).norm() < rest * landed.norm()


def test_the_integers_are_those_of_the_trained_network(residual):
    network, snn = residual
    assert network.budgets().weight_bits <= 2.6
    for name, synapse in synapses_of(snn).items():
        weight = network.weight_of(name)
        real = (weight.relative * weight.scale).detach().flatten(1) / weight.step()[:, None]
        expected = nearest_weights(real, widths_of(synapse.weight_bits, real))
        outer = synapse.weight_bits == 8  # scales of so many bits may become much larger in common units
        assert outer or torch.equal(synapse.weight.flatten(1).float(), expected)


def test_plan_and_report_have_the_learned_widths(residual):
    network, snn = residual
    found = {item.layer: (item.weight_bits, item.spike_bits, item.T) for item in network.allocation()}
    assert {item.layer: (item.weight_bits, item.bits, item.T) for item in snn.plan.synapses} == found
    assert snn.report.totals.bit_budget == pytest.approx(network.budgets().report_bit_budget)
    assert any("learned" in note for note in snn.report.notes)
    assert not snn.config.bias_correction


@pytest.mark.parametrize("neuron", mostly_slow(["packed", "if"], keep=["packed"]))
def test_it_saves_loads_and_runs_in_time(tmp_path, neuron):
    network, snn = trained(Residual, neuron=neuron, bits=2, T=2)
    images = images_for(Residual, 12)
    expected = output_of(snn, images)
    snn.save(tmp_path / "out")
    assert torch.equal(output_of(snnconvert.load(tmp_path / "out"), images), expected)
    assert torch.equal(snn.simulate(images).output, expected)
    if neuron == "packed":
        assert torch.equal(torch.as_tensor(snn.compile("onnxruntime")(images)), expected)
    else:
        waiting = snn.simulate(images, latency="window").output
        near = output_of(network, images)
        assert (waiting - near).norm() < 0.35 * near.norm()


@pytest.mark.slow
def test_digits_learn_narrow_widths_and_decide_as_before():
    digits, model = digits_tensors(), load_digits_net()
    config = snnconvert.ConversionConfig(bits=4, T=1, weight_bits=4)
    prepared, statistics = calibrated(model, digits.train_images[:128], config)
    network = LearnedBitsNetwork(prepared, thresholds_of(prepared, statistics)[0], LearnedBitsConfig(2.5, 2.5))
    images, labels = torch.split(digits.train_images[:640], 64), torch.split(digits.train_labels[:640], 64)
    train(network, list(zip(images, labels, strict=True)), LearningSchedule(4, 2e-3))
    snn = land(network, statistics)
    near, landed = output_of(network, digits.test_images), output_of(snn, digits.test_images)
    assert float((near.argmax(1) == landed.argmax(1)).float().mean()) > 0.97
    assert (near - landed).norm() < 0.2 * near.norm()
    assert network.budgets().bit_budget <= 2.5 * 2.5
    assert float((landed.argmax(1) == digits.test_labels).float().mean()) > 0.96


def test_learn_bits_is_the_whole_way():
    config = snnconvert.ConversionConfig(bits=4, T=1, weight_bits=4)
    prepared, statistics = calibrated(seeded(Residual), images_for(Residual), config)
    snn = learn_bits(prepared, statistics, labelled(Residual), QUICK, LearningSchedule(2))
    assert output_of(snn, images_for(Residual, 4)).shape == (4, 5)
    inner = [item for item in snn.plan.synapses if item.layer not in ("stem", "head")]
    assert sum(item.weight_bits * item.macs for item in inner) / sum(item.macs for item in inner) < 3.5


def test_the_ann_itself_stays_as_it_is():
    config = snnconvert.ConversionConfig(bits=4, T=1, weight_bits=4)
    model = seeded(Residual)
    prepared, statistics = calibrated(model, images_for(Residual), config)
    images = images_for(Residual, 4)
    before = output_of(prepared.graph, images)
    learn_bits(prepared, statistics, labelled(Residual), QUICK, LearningSchedule(1, 0.01))
    assert torch.equal(output_of(prepared.graph, images), before)
    assert torch.equal(output_of(model, images), output_of(seeded(Residual), images))


def test_training_lowers_the_loss_at_held_widths():
    network, _ = learner(Residual, LearnedBitsConfig(learn_widths=False), bits=2, weight_bits=2)
    images, model = images_for(Residual), seeded(Residual)
    wanted = output_of(model, images)
    before = float(distillation_loss([output_of(network.eval(), images)], [wanted], None))
    train(network, torch.split(images, 16), LearningSchedule(10, 1e-2))
    assert float(distillation_loss([output_of(network, images)], [wanted], None)) < 0.5 * before


def test_loss_is_divergence_plus_cross_entropy():
    logits, teacher, labels = torch.randn(6, 4), torch.randn(6, 4), torch.randint(0, 4, (6,))
    own, wanted = logits.softmax(1), teacher.softmax(1)
    divergence = (wanted * (wanted / own).log()).sum(1).mean()
    entropy = -own[torch.arange(6), labels].log().mean()
    assert float(distillation_loss([logits], [teacher], None)) == pytest.approx(float(divergence), rel=1e-4)
    together = float(distillation_loss([logits], [teacher], labels))
    assert together == pytest.approx(float(divergence + entropy), rel=1e-4)
    several = distillation_loss([logits, 2 * logits], [logits, logits], None)
    assert float(several) == pytest.approx(0.5)


@pytest.mark.parametrize("loader", [iter([torch.randn(2, 3, 8, 8)]), []])
def test_loaders_that_cannot_train_are_refused(loader):
    network, _ = learner(Residual)
    with pytest.raises(InputError, match="training loader"):
        train(network, loader, LearningSchedule(2))
