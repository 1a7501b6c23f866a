"""Which way gradients take is a setting of fine-tuning."""

import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.errors import ConfigurationError
from snnconvert.trainable.gradients import Gradients
from snnconvert.trainable.surrogate import Surrogate
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.sparsity import trainee_for


def _converted(neuron):
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    images = torch.randn(32, 1, 8, 8)
    config = snnconvert.ConversionConfig(neuron=neuron, bits=1, T=4)
    return snnconvert.convert(ann.eval(), images, config, progress=False), images


def test_auto_takes_what_suits_the_network():
    config = FinetuneConfig(surrogate="triangle", surrogate_alpha=1.0, truncation=2)
    snn, _ = _converted("packed")
    assert trainee_for(snn, config).network.gradients.through == "window"
    snn, _ = _converted("lif:leak=0.9")
    expected = Gradients("time", Surrogate("triangle", 1.0), 2)
    assert trainee_for(snn, config).network.gradients == expected


def test_the_way_that_was_told_is_taken():
    snn, images = _converted("if")
    labels = torch.arange(len(images)) % 3
    outputs = {}
    for way in ("window", "time"):
        config = FinetuneConfig(epochs=1, batch_size=8, learning_rate=0.01, gradients=way)
        outputs[way] = finetune(snn, (images, labels), config)(images)
    assert not torch.equal(outputs["window"], outputs["time"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradients": "space"}, "gradients must be one of auto, window, time"),
        ({"surrogate": "step"}, "surrogate"),
        ({"surrogate_alpha": 0.0}, "alpha"),
        ({"truncation": -1}, "truncation"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        FinetuneConfig(**settings)


def test_settings_survive_a_report():
    config = FinetuneConfig(gradients="time", surrogate="sigmoid", truncation=3)
    assert FinetuneConfig.from_dict(config.to_dict()) == config
