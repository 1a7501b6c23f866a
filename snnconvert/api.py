"""The one verb: an ANN and calibration data in, a spiking network out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from torch import Tensor, nn

from snnconvert.calibration.batches import input_batches
from snnconvert.config import ConversionConfig
from snnconvert.conversion import calibrate, calibrate_leaves, prepare, with_progress
from snnconvert.convert.plan import Plan
from snnconvert.convert.signature import parameters_of
from snnconvert.errors import InputError
from snnconvert.inputs import Inputs
from snnconvert.spiking_model import SpikingModel

__all__ = ["calibrate", "convert", "plan", "prepare"]


def plan(model: nn.Module, example: Tensor | Inputs, config: ConversionConfig | None = None) -> Plan:
    """What :func:`convert` would do, without calibration: synapses, neurons, and what stays analog.

    Args:
        model: the network.
        example: one or more input samples, [N, ...], or the arguments of one call.
        config: the settings; defaults to ``ConversionConfig()``.

    Raises:
        ConversionError: as :func:`convert`.
        ConfigurationError: as :func:`convert`.
    """
    return prepare(model, example, config).plan


def convert(
    model: nn.Module,
    calib_loader: Iterable[Any] | Tensor,
    config: ConversionConfig | None = None,
    *,
    transform: Callable[[Any], Any] | None = None,
    progress: bool = True,
) -> SpikingModel:
    """Converts a network into a spiking one.

    The model's graph is captured, thresholds are chosen from one streaming pass over the loader, neurons
    and integer weights are inserted, and channel means are corrected on a small sample. The model itself
    is left untouched. The result doesn't depend on the loader's order or batch size.

    Args:
        model: any module of tensors, or of lists, tuples and dicts of tensors, that returns the like.
        calib_loader: batches as tensors, (input, label) pairs, dicts of the model's arguments or
            :class:`~snnconvert.inputs.Inputs`, or one tensor [N, ...]. For the detectors in torchvision lists of
            images [C, H, W], or (images, targets) pairs.
        config: the settings; defaults to ``ConversionConfig()``: 2-bit spikes, 4 steps, 8-bit weights.
        transform: turns an item of the loader into an input tensor, a dict or Inputs.
        progress: show a progress bar on stderr if it is a terminal.

    Returns:
        The spiking network on the model's device, in the model's type, in evaluation mode. If ``config.parts``
        names parts of the model, or the model is one of torchvision's detectors, a
        :class:`~snnconvert.hybrid.HybridModel` whose parts are spiking networks.

    Raises:
        InputError: on an empty loader, or NaN or Inf in its images.
        ConversionError: if the network can't be captured, none of its layers would spike, activations
            reach NaN or Inf, or a sum of currents can't be proven exact.
        ConfigurationError: if an override matches no layer.
    """
    batches = input_batches(calib_loader, transform, parameters_of(model))
    first = next(batches, None)
    if first is None:
        raise InputError("the calibration loader is empty: give it at least one batch")
    prepared = prepare(model, first, config)
    leaves = (prepared.signature.flatten(batch.args, batch.kwargs) for batch in chain([first], batches))
    return calibrate_leaves(prepared, with_progress(leaves, calib_loader, progress))
