import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snnconvert.errors import ConfigurationError, InputError
from snnconvert.training.averaging import Average
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.mixing import Mixing
from snnconvert.training.objective import Objective, divergence, value_error
from snnconvert.training.schedule import Group, make_optimizer, rate_factor, set_rate


def test_divergence_is_kullback_leibler_at_a_temperature():
    logits, reference = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.randn(5, 7)
    for temperature in (1.0, 4.0):
        student, teacher = F.log_softmax(logits / temperature, 1), F.softmax(reference / temperature, 1)
        expected = temperature**2 * F.kl_div(student, teacher, reduction="batchmean")
        assert divergence(logits, reference, temperature) == pytest.approx(float(expected), rel=1e-5)
    assert float(divergence(reference, reference, 2.0)) == pytest.approx(0, abs=1e-6)


def test_the_loss_mixes_labels_and_the_ann():
    logits, reference, labels = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    config = FinetuneConfig(distillation=0.25, temperature=2.0)
    loss = Objective(config, reference)
    both = loss(logits, labels, reference)
    expected = 0.75 * F.cross_entropy(logits, labels) + 0.25 * divergence(logits, reference, 2.0)
    assert float(both) == pytest.approx(float(expected), rel=1e-5)
    assert float(loss(logits, labels, None)) == pytest.approx(float(F.cross_entropy(logits, labels)))
    alone = loss(logits, None, reference)
    assert float(alone) == pytest.approx(float(divergence(logits, reference, 2.0)))
    with pytest.raises(InputError, match="nothing to learn from"):
        loss(logits, None, None)
    with pytest.raises(InputError, match=r"0\.\.2, got 0\.\.3"):
        loss(logits, torch.tensor([0, 3, 1, 1]), None)


def test_labels_of_mixed_samples_are_mixed():
    logits, own, other = torch.randn(4, 3), torch.tensor([0, 2, 1, 1]), torch.tensor([1, 2, 0, 2])
    shares = torch.tensor([0.0, 0.3, 0.8, 1.0])
    soft = shares[:, None] * F.one_hot(own, 3) + (1 - shares[:, None]) * F.one_hot(other, 3)
    found = Objective(FinetuneConfig())(logits, own, None, Mixing(shares, other))
    assert float(found) == pytest.approx(float(F.cross_entropy(logits, soft)), rel=1e-5)


def test_samples_without_a_label_learn_from_the_ann():
    logits, reference, labels = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, -1, 1, -1, 2])
    loss = Objective(FinetuneConfig(distillation=0.25), reference)
    known, unknown = labels >= 0, labels < 0
    of_known = loss(logits[known], labels[known], reference[known])
    of_unknown = divergence(logits[unknown], reference[unknown], 2.0)
    assert float(loss(logits, labels, reference)) == pytest.approx(0.6 * float(of_known) + 0.4 * float(of_unknown))
    nothing_known = loss(logits, torch.full((5,), -1), reference)
    assert float(nothing_known) == pytest.approx(float(loss(logits, None, reference)))
    with pytest.raises(InputError, match="have no label: give an ANN"):
        loss(logits, labels, None)


def test_several_outputs_are_compared_as_values():
    few = {"boxes": torch.randn(16, 4, 3), "scores": 100 * torch.randn(16, 2)}
    found = {name: value + 0.1 * value.std(unbiased=False) for name, value in few.items()}
    loss = Objective(FinetuneConfig(), few)
    assert float(loss(found, None, few)) == pytest.approx(0.01, rel=1e-4)
    assert float(loss(few, None, few)) == 0
    with pytest.raises(InputError, match="2 outputs, labels belong to one"):
        loss(found, torch.zeros(16, dtype=torch.long), few)


def test_what_outputs_are_taken_for_can_be_told():
    logits, reference = torch.randn(8, 3), torch.randn(8, 3)
    values = Objective(FinetuneConfig(matching="values"), reference)
    variance = float(reference.var(unbiased=False))
    assert float(values(logits, None, reference)) == pytest.approx(
        float(value_error([logits], [reference], [variance]))
    )
    assert float(values(logits, None, reference)) == pytest.approx(float(F.mse_loss(logits, reference)) / variance)
    pair = Objective(FinetuneConfig(matching="classes"), [reference, reference])
    expected = float(divergence(logits, reference, 2.0))
    assert float(pair([logits, logits], None, [reference, reference])) == pytest.approx(expected)


def test_the_rate_rises_and_falls():
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == pytest.approx(1)
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_groups_have_rates_and_decay_of_their_own(kind):
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    groups = [
        Group("weights", (nn.Parameter(torch.ones(2)), frozen), decays=True),
        Group("thresholds", (nn.Parameter(torch.ones(1)),), 0.5),
    ]
    config = FinetuneConfig(optimizer=kind, learning_rate=0.2, weight_decay=0.01, warmup=0.0)
    optimizer = make_optimizer(groups, config)
    assert set_rate(optimizer, config, 0, 10) == pytest.approx(0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.1])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_the_average_follows_its_formula():
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    average, mean = Average([parameter], 0.9), 0.0
    for step in range(1, 40):
        with torch.no_grad():
            parameter.fill_(step)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * step
    with average.in_place():
        assert float(parameter.detach()) == pytest.approx(mean)
    assert float(parameter.detach()) == 39
    average.keep()
    assert float(parameter.detach()) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"distillation": 1.5}, "distillation"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": "1"}, "learning_rate"),
        ({"optimizer": "adam"}, "adamw"),
        ({"augmentation": "rotate"}, "flip"),
        ({"mixup": -1.0}, "mixup"),
        ({"batch_size": 10, "accumulate": 3}, "equal parts"),
        ({"target_sparsity": 2.0}, "target_sparsity"),
    ],
)
def test_settings_out_of_range_are_refused(values, word):
    with pytest.raises(ConfigurationError, match=word):
        FinetuneConfig(**values)


def test_settings_survive_a_round_trip():
    config = FinetuneConfig(epochs=3, target_sparsity=0.5, augmentation="crop")
    assert FinetuneConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigurationError, match="steps"):
        FinetuneConfig.from_dict({"steps": 3})
