"""Networks with several outputs, and outputs that are no logits, learn the ANN's values."""

import functools

import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.evaluation import compare
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune

CONFIG = FinetuneConfig(epochs=20, batch_size=16, learning_rate=3e-3)


class Heads(nn.Module):
    """Two maps of different magnitudes, in a dictionary."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())
        self.boxes, self.scores = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        return {"boxes": 100 * self.boxes(x), "scores": self.scores(x)}


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x, y):
        return self.one(x).relu() + self.other(y).relu()


@functools.cache
def narrow():
    torch.manual_seed(0)
    ann, images = Heads().eval(), torch.rand(64, 3, 8, 8)
    config = snnconvert.ConversionConfig(bits=1, T=1, weight_bits=2, input_bits=4)
    return ann, images, snnconvert.convert(ann, images, config, progress=False)


def decibels(ann, snn, images):
    return compare(ann, snn, [(images, None)]).fidelity("").logit_sqnr_db


def test_several_outputs_come_closer_without_labels():
    ann, images, snn = narrow()
    tuned = finetune(snn, images[:48], CONFIG, teacher=ann)
    held_out = images[48:]
    before, after, wanted = snn(held_out), tuned(held_out), ann(held_out)
    assert decibels(ann, tuned, held_out) > decibels(ann, snn, held_out) + 1
    for name, value in wanted.items():  # each by itself, whatever its magnitude
        assert (after[name] - value).norm() < (before[name] - value).norm(), name


def test_a_distance_of_ones_own_decides_what_is_learned():
    ann, images, snn = narrow()

    def of_scores(output, reference):
        return (output["scores"] - reference["scores"]).square().mean()

    tuned = finetune(snn, images, CONFIG, teacher=ann, distance=of_scores)
    wanted = ann(images)["scores"]
    assert (tuned(images)["scores"] - wanted).norm() < 0.8 * (snn(images)["scores"] - wanted).norm()


def test_labels_belong_to_one_output():
    ann, images, snn = narrow()
    with pytest.raises(InputError, match="2 outputs, labels belong to one"):
        finetune(snn, (images, torch.zeros(64, dtype=torch.long)), CONFIG, teacher=ann)


def test_several_inputs_want_a_loop_of_their_own():
    ann = Pair()
    inputs = snnconvert.Inputs(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8))
    snn = snnconvert.convert(ann, [inputs], progress=False)
    with pytest.raises(ConfigurationError, match="one input: train others in a loop of your own"):
        finetune(snn, torch.rand(4, 3, 8, 8), CONFIG, teacher=ann)
