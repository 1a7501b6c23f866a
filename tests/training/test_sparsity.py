import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_helpers import accuracy, converted_digits, held_out_digits, rate_coded_digits, training_digits

import snnconvert
from snnconvert.errors import ConfigurationError
from snnconvert.models.digits import load_digits_net
from snnconvert.neurons.activity import activity_of_words
from snnconvert.trainable.gradients import Gradients
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import Samples, finetune
from snnconvert.training.loop import Course, train
from snnconvert.training.sparsity import SparseTrainee, SparsityConfig, trainee_for
from snnconvert.training.trainee import SpikingTrainee

HERE = Path(__file__).resolve().parent


class Kept:
    def __init__(self):
        self.rows = []

    def write(self, step, values):
        self.rows.append({"step": step, **values})

    def close(self):
        pass


class InterruptionError(Exception):
    pass


class InterruptedAt(Kept):
    def __init__(self, step):
        super().__init__()
        self.last = step

    def write(self, step, values):
        super().write(step, values)
        if step == self.last:
            raise InterruptionError


def sparse(snn, **settings):
    """A network that is trained as for constant currents, so that what it fires has a closed form."""
    trainee = SparseTrainee(snn, 1.0, SparsityConfig(**settings))
    trainee.network.gradients = Gradients("window")
    return trainee


def seen(trainee, inputs):
    """Penalties of a batch and what was measured on it."""
    trainee.module(inputs)
    return trainee.penalties(0.0), trainee.after_step(0.0)


def test_the_sparsity_of_binary_spikes_is_that_of_the_network_run_in_time():
    snn, inputs = rate_coded_digits(), held_out_digits()[0][:40]
    _, measured = seen(sparse(copy.deepcopy(snn), activation_penalty=1.0), inputs)
    layers = list(snn.simulate(inputs, record="counts", latency="window").layers.values())[1:]
    spikes = sum(sum(layer.counts) for layer in layers)
    slots = sum(layer.neurons * layer.samples * 6 for layer in layers)
    assert measured["bit sparsity"] == pytest.approx(1 - spikes / slots, abs=1e-12)


def test_the_sparsity_of_words_is_that_of_their_bits():
    snn, inputs = converted_digits(2, 2, 4), held_out_digits()[0][:40]
    _, measured = seen(sparse(copy.deepcopy(snn), activation_penalty=1.0), inputs)
    records = snn.simulate(inputs, record="spikes").layers
    neurons = dict(snn.neurons())
    names = list(neurons)[1:]
    activities = [
        activity_of_words(neurons[name].code.from_spikes(records[name].spikes), neurons[name].code) for name in names
    ]
    bits = sum(item.windows * item.bits * item.T for item in activities)
    windows = sum(item.windows for item in activities)
    assert measured["bit sparsity"] == pytest.approx(1 - sum(i.set_bits for i in activities) / bits, abs=1e-12)
    assert measured["word sparsity"] == pytest.approx(sum(i.silent for i in activities) / windows, abs=1e-12)


def test_the_activation_penalty_is_the_sum_over_a_samples_neurons_and_the_mean_over_samples():
    snn, inputs = rate_coded_digits(), held_out_digits()[0][:10]
    (terms, _) = seen(sparse(copy.deepcopy(snn), activation_penalty=2.0), inputs)
    layers = list(snn.simulate(inputs, record="counts", latency="window").layers.values())[1:]
    expected = 2.0 * sum(sum(layer.counts) for layer in layers) / 6 / len(inputs)
    assert float(terms["activation penalty"].detach()) == pytest.approx(expected, rel=1e-5)
    assert list(terms) == ["activation penalty"]


def test_parts_of_a_batch_press_like_the_whole():
    inputs = held_out_digits()[0][:12]
    whole, parted = (sparse(rate_coded_digits(), activation_penalty=1.0) for _ in range(2))
    whole.module(inputs)
    whole.penalties(0.0)["activation penalty"].backward()
    for part in inputs.split(4):
        parted.module(part)
        (parted.penalties(0.0)["activation penalty"] / 3).backward()
    assert whole.after_step(0.0)["bit sparsity"] == pytest.approx(parted.after_step(0.0)["bit sparsity"], abs=1e-12)
    for (name, one), (_, other) in zip(whole.network.synapses(), parted.network.synapses(), strict=True):
        if one.weight.grad is not None:
            torch.testing.assert_close(one.weight.grad, other.weight.grad, rtol=1e-3, atol=1e-3, msg=name)


def test_the_gradient_of_the_activity_is_the_slope_of_neurons_that_can_still_fire_less():
    """One layer: dΣx/db = #{−1/2 < z < T + 1/2 before rounding}/(Δ·T)."""
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    inputs = torch.randn(20, 3, 4, 4)
    snn = snnconvert.convert(ann, inputs, snnconvert.ConversionConfig(neuron="if", bits=1, T=6), progress=False)
    trainee = sparse(snn, activation_penalty=1.0)
    steps = []
    (_, _), (_, neuron) = trainee.network.neurons()
    neuron.register_forward_pre_hook(lambda module, args: steps.append(args[0].detach() * module.gain().detach()))
    trainee.module(inputs)
    trainee.penalties(0.0)["activation penalty"].backward()
    (_, first), _ = trainee.network.synapses()
    gated = ((steps[0] > -0.5) & (steps[0] < 6.5)).double().sum((0, 2, 3))
    worth = float(neuron.neuron.step)
    torch.testing.assert_close(first.bias.grad.double(), gated / (worth * 6 * len(inputs)), rtol=1e-4, atol=1e-6)


def test_the_gradient_limit_squashes_what_reaches_the_neurons():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    inputs = torch.randn(20, 3, 4, 4)
    snn = snnconvert.convert(ann, inputs, snnconvert.ConversionConfig(neuron="if", bits=1, T=6), progress=False)
    grads = []
    for limit in (0.0, 0.25, 4.0):
        trainee = sparse(copy.deepcopy(snn), activation_penalty=len(inputs), gradient_limit=limit)
        trainee.module(inputs)
        trainee.penalties(0.0)["activation penalty"].backward()
        (_, first), _ = trainee.network.synapses()
        grads.append(first.bias.grad)
    torch.testing.assert_close(grads[1], 0.25 * grads[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grads[2], grads[0])


def test_a_fixed_penalty_makes_a_network_sparser():
    config = FinetuneConfig(epochs=2, batch_size=40, learning_rate=2e-3, activation_penalty=1e-2)
    rows = {}
    for penalty in (0.0, 1e-2):
        log = Kept()
        config = FinetuneConfig(epochs=2, batch_size=40, learning_rate=2e-3)
        trainee = sparse(rate_coded_digits(), activation_penalty=penalty)
        train(trainee, Samples(*training_digits()), config, load_digits_net(), Course(logs=(log,)))
        rows[penalty] = log.rows[-1]["bit sparsity"]
    assert rows[1e-2] > rows[0.0] + 0.02


def test_a_gram_penalty_lowers_the_gram_matrices():
    trainee = sparse(rate_coded_digits(), gram_penalty=2e-3)
    trainee.module(training_digits(8)[0])
    before = trainee.penalties(0.0)["gram penalty"]
    before.backward()
    with torch.no_grad():
        for _, synapse in trainee.network.synapses():
            synapse.weight -= 0.01 * synapse.weight.grad
    trainee.module(training_digits(8)[0])
    assert float(trainee.penalties(0.0)["gram penalty"].detach()) < float(before.detach())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "rate"), [(rate_coded_digits, 5e-4), (lambda: converted_digits(2, 2, 8), 2e-3)], ids=["rate", "packed"]
)
def test_a_target_is_reached_in_a_few_dozen_steps(network, rate):
    log = Kept()
    config = FinetuneConfig(epochs=8, batch_size=50, learning_rate=rate, target_sparsity=0.88)
    start = network()
    trainee = trainee_for(start, config)
    inputs = training_digits(64)[0]
    assert seen(trainee, inputs)[1]["bit sparsity"] < 0.84
    trainee.begin(inputs)
    train(trainee, Samples(*training_digits()), config, load_digits_net(), Course(logs=(log,)))
    found = [row["bit sparsity"] for row in log.rows]
    assert len(found) == 64
    assert 0.865 < sum(found[-8:]) / 8 < 0.91
    assert accuracy(start.finish_training()) > 0.9


def test_a_run_that_was_stopped_goes_on_with_the_same_weight(tmp_path):
    def run(folder, resume, *logs):
        config = FinetuneConfig(epochs=2, batch_size=40, learning_rate=2e-3, target_sparsity=0.9, checkpoint_steps=1)
        trainee = trainee_for(rate_coded_digits(), config)
        train(trainee, Samples(*training_digits(120)), config, load_digits_net(), Course(folder, resume, logs))
        return trainee.activation_penalty

    alone = run(tmp_path / "alone", False)
    with pytest.raises(InterruptionError):
        run(tmp_path / "parts", False, InterruptedAt(3))
    assert run(tmp_path / "parts", True) == alone


def test_a_copy_of_a_network_in_training_is_not_watched():
    trainee = sparse(rate_coded_digits(), activation_penalty=1.0)
    inputs = training_digits(8)[0]
    trainee.module(inputs)
    copied = copy.deepcopy(trainee.module)
    copied(inputs * 2)
    first = trainee.penalties(0.0)["activation penalty"]
    trainee.module(inputs)
    assert float(trainee.penalties(0.0)["activation penalty"]) == float(first)


def test_what_runs_without_gradients_does_not_count():
    trainee = sparse(rate_coded_digits(), activation_penalty=1.0)
    inputs = training_digits(16)[0]
    _, expected = seen(trainee, inputs)
    with torch.no_grad():
        trainee.module(-3 * inputs)
    _, found = seen(trainee, inputs)
    assert found == expected


def test_penalties_belong_to_a_batch():
    trainee = sparse(rate_coded_digits(), activation_penalty=1.0)
    with pytest.raises(ConfigurationError, match="call the network with gradients first"):
        trainee.penalties(0.0)


def test_a_network_without_hidden_neurons_is_refused():
    ann = nn.Sequential(nn.Linear(12, 3)).eval()
    snn = snnconvert.convert(ann, torch.randn(20, 12), progress=False)
    with pytest.raises(ConfigurationError, match="no neurons behind the network's inputs"):
        sparse(snn, activation_penalty=1.0)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({}, SpikingTrainee), ({"target_sparsity": 0.9}, SparseTrainee), ({"gram_penalty": 1e-3}, SparseTrainee)],
)
def test_settings_of_fine_tuning_say_what_is_trained(settings, kind):
    assert type(trainee_for(rate_coded_digits(), FinetuneConfig(**settings))) is kind


@pytest.mark.parametrize("settings", [{"target": 1.5}, {"activation_penalty": -1.0}, {"gram_identity": float("nan")}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        SparsityConfig(**settings)


def test_finetune_takes_a_target():
    config = FinetuneConfig(epochs=1, batch_size=40, target_sparsity=0.9, distillation=0.0)
    tuned = finetune(rate_coded_digits(), training_digits(80), config)
    assert tuned.report.training["target_sparsity"] == 0.9
    assert tuned.trainable is None


@pytest.mark.slow
def test_all_processes_drive_the_same_weight(tmp_path):
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if count == 2 else []
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        done = subprocess.run(
            [sys.executable, *launcher, str(HERE / "sparsity_worker.py"), str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    first, second = (float((tmp_path / "2" / f"weight{rank}").read_text()) for rank in range(2))
    assert first == second
    assert first == pytest.approx(float((tmp_path / "1" / "weight0").read_text()), rel=0.01)
