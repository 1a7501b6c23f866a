"""What the tests of training share: the digits network, converted to few bits, and its images."""

import copy
import functools

import torch

import snnconvert
from snnconvert.data.digits import digits_images, digits_preprocessing
from snnconvert.models.digits import load_digits_net


@functools.cache
def _sets():
    sets = digits_images(digits_preprocessing(), calibration_images=400)
    return tuple(_stacked(part) for part in (sets.calibration, sets.evaluation))


def _stacked(part):
    inputs, labels = zip(*(part[index] for index in range(len(part))), strict=True)
    return torch.stack(inputs), torch.tensor(labels)


def training_digits(count=400):
    inputs, labels = _sets()[0]
    return inputs[:count], labels[:count]


def held_out_digits():
    return _sets()[1]


@functools.cache
def _converted(bits, T, weight_bits, neuron="packed"):
    config = snnconvert.ConversionConfig(bits=bits, T=T, weight_bits=weight_bits, neuron=neuron)
    return snnconvert.convert(load_digits_net(), training_digits(128)[0], config, progress=False)


def converted_digits(bits=1, T=1, weight_bits=1):
    """The digits network with so few bits that it loses two thirds of its accuracy."""
    return copy.deepcopy(_converted(bits, T, weight_bits))


def rate_coded_digits(T=6):
    """The digits network with binary integrate-and-fire neurons."""
    return copy.deepcopy(_converted(1, T, 8, "if"))


def accuracy(network):
    inputs, labels = held_out_digits()
    with torch.no_grad():
        return float((network(inputs).argmax(1) == labels).double().mean())
