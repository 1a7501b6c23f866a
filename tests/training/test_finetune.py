import csv

import pytest
import torch
from slow_cases import mostly_slow
from training_helpers import accuracy, converted_digits, held_out_digits, training_digits

import snnconvert
from snnconvert.errors import ArtifactError, ConfigurationError, ConversionError, InputError
from snnconvert.models.digits import load_digits_net
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.loop import Course

SHORT = FinetuneConfig(epochs=2, batch_size=50, learning_rate=2e-3)


class StopError(Exception):
    """The run is killed."""


class Killer:
    """A log that ends the run at a step."""

    def __init__(self, step):
        self.step = step

    def write(self, step, values):
        if step == self.step:
            raise StopError

    def close(self):
        pass


def parameters(snn):
    return snn.network.state_dict()


def assert_same(first, second):
    one, two = parameters(first), parameters(second)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


@pytest.fixture(scope="module")
def tuned():
    return finetune(
        converted_digits(), training_digits(), FinetuneConfig(epochs=8, learning_rate=3e-3), teacher=load_digits_net()
    )


def test_it_gains_accuracy_and_leaves_the_original_alone(tuned):
    before = converted_digits()
    kept = {name: value.clone() for name, value in parameters(before).items()}
    finetune(before, training_digits(100), SHORT)
    assert all(torch.equal(value, kept[name]) for name, value in parameters(before).items())
    assert accuracy(tuned) > accuracy(before) + 0.2


def test_what_comes_out_is_an_ordinary_network(tuned, tmp_path):
    inputs = held_out_digits()[0][:40]
    assert not list(tuned.parameters())
    assert not tuned.training
    tuned.save(tmp_path / "snn")
    loaded = snnconvert.load(tmp_path / "snn")
    assert torch.equal(loaded(inputs), tuned(inputs))
    assert torch.equal(tuned.simulate(inputs).output, tuned(inputs))
    assert torch.equal(tuned.compile("onnxruntime", cache=False)(inputs), tuned(inputs))
    assert loaded.report.training["epochs"] == 8
    assert any("fine-tuned for 48 steps" in note for note in loaded.report.notes)


def test_the_report_counts_the_spikes_that_are_fired_now(tuned):
    inputs = training_digits(64)[0]
    counts = tuned.simulate(inputs, record=("counts",)).layers
    layer = next(layer for layer in tuned.report.layers if layer.name == "block1.conv2")
    (rate,) = [record.firing_rate for name, record in counts.items() if name == "block1.relu.relu"]
    assert layer.firing_rate == pytest.approx(rate, abs=1e-6)
    neurons = dict(tuned.neurons())["block1.relu.relu"]
    assert layer.step == pytest.approx(float(neurons.step))
    assert tuned.report.fidelity.images == 64
    assert tuned.report.totals.bit_budget == converted_digits().report.totals.bit_budget


@pytest.mark.parametrize("killed_at", mostly_slow([3, 5, 8, 11], keep=[3, 8]))
def test_a_run_that_was_killed_goes_on_bit_for_bit(killed_at, tmp_path):
    config = FinetuneConfig(
        epochs=2, batch_size=64, learning_rate=2e-3, ema=0.9, augmentation="crop", checkpoint_steps=2
    )
    data, teacher = training_digits(), load_digits_net()
    whole = finetune(converted_digits(), data, config, teacher=teacher, course=Course(tmp_path / "whole"))
    with pytest.raises(StopError):
        finetune(
            converted_digits(),
            data,
            config,
            teacher=teacher,
            course=Course(tmp_path / "run", logs=(Killer(killed_at),)),
        )
    again = finetune(converted_digits(), data, config, teacher=teacher, course=Course(tmp_path / "run", resume=True))
    assert_same(again, whole)
    logs = [list(csv.DictReader((tmp_path / name / "log.csv").open())) for name in ("whole", "run")]
    assert logs[0] == logs[1]
    assert [int(row["step"]) for row in logs[1]] == list(range(12))


def test_accumulation_and_the_order_of_loading_change_nothing_but_rounding():
    whole = finetune(converted_digits(), training_digits(100), SHORT)
    parts = finetune(converted_digits(), training_digits(100), FinetuneConfig(**{**SHORT.to_dict(), "accumulate": 5}))
    inputs = held_out_digits()[0]
    first, second = whole(inputs), parts(inputs)
    assert float((first - second).square().mean()) < 0.02 * float(first.var())


def test_without_labels_it_learns_from_the_ann_alone():
    inputs = training_digits()[0]
    tuned = finetune(
        converted_digits(), inputs, FinetuneConfig(epochs=5, learning_rate=3e-3), teacher=load_digits_net()
    )
    assert accuracy(tuned) > accuracy(converted_digits()) + 0.1
    with pytest.raises(InputError, match="nothing to learn from"):
        finetune(converted_digits(), inputs, SHORT)


def test_blocks_come_closer_when_they_are_distilled():
    config = FinetuneConfig(epochs=10, learning_rate=5e-4, distillation=0.0, block_distillation=5.0)
    seen = []

    class Reader:
        def write(self, step, values):
            seen.append(values["blocks"])

        def close(self):
            pass

    network = converted_digits(2, 2, 2)
    finetune(network, training_digits(), config, teacher=load_digits_net(), course=Course(logs=(Reader(),)))
    assert sum(seen[-4:]) < 0.95 * sum(seen[:4])


def test_what_cannot_work_is_refused(tmp_path):
    data = training_digits(100)
    with pytest.raises(ConversionError, match="lower the learning rate"):
        finetune(converted_digits(), data, FinetuneConfig(learning_rate=1e38, clip=0.0, epochs=60, optimizer="sgd"))
    with pytest.raises(InputError, match="data set"):
        finetune(converted_digits(), iter([data]), SHORT)
    finetune(converted_digits(), data, SHORT, course=Course(tmp_path))
    with pytest.raises(ConfigurationError, match="other learning_rate"):
        finetune(
            converted_digits(), data, FinetuneConfig(epochs=2, batch_size=50), course=Course(tmp_path, resume=True)
        )
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="damaged"):
        finetune(converted_digits(), data, SHORT, course=Course(tmp_path, resume=True))
