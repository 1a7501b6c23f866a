"""The one verb: an ANN and calibration data in, a spiking network out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from snnconvert.allocation.finish import finisher
from snnconvert.calibration.no_data import NoData
from snnconvert.config import ConversionConfig
from snnconvert.conversion import calibrate as calibrate_prepared
from snnconvert.conversion import convert_whole
from snnconvert.convert.plan import Plan
from snnconvert.detectors import detector_parts
from snnconvert.errors import ConversionError, InputError
from snnconvert.hybrid import HybridModel
from snnconvert.inputs import Inputs
from snnconvert.models.onnx.classifier import is_onnx
from snnconvert.models.onnx.model import load_onnx
from snnconvert.parts import convert_parts
from snnconvert.preparation import PreparedConversion, prepare
from snnconvert.spiking_model import SpikingModel

__all__ = ["calibrate", "convert", "convert_parts", "plan", "prepare"]


def plan(model: nn.Module | str | Path, example: Tensor | Inputs, config: ConversionConfig | None = None) -> Plan:
    """What :func:`convert` would do, without calibration: synapses, neurons, and what stays analog.

    Args:
        model: the network, or the path of an .onnx file.
        example: one or more input samples, [N, ...], or the arguments of one call.
        config: the settings; defaults to ``ConversionConfig()``.

    Raises:
        InputError: if the model is a file that can't be read.
        ConversionError: as :func:`convert`.
        ConfigurationError: as :func:`convert`.
    """
    network = _network(model)
    if _is_taken_apart(network, config):
        raise ConversionError("a plan is of one network: plan each part for itself, or convert by parts")
    return prepare(network, example, config).plan


def convert(
    model: nn.Module | str | Path,
    calib_loader: Iterable[Any] | Tensor | NoData,
    config: ConversionConfig | None = None,
    *,
    transform: Callable[[Any], Any] | None = None,
    progress: bool = True,
    validation: Iterable[Any] | Tensor | None = None,
) -> SpikingModel | HybridModel:
    """Converts a network into a spiking one.

    The model's graph is captured, thresholds are chosen from one streaming pass over the loader, neurons
    and integer weights are inserted, and channel means are corrected on a small sample. The model itself
    is left untouched. The result doesn't depend on the loader's order or batch size.

    In a group of several processes of ``torch.distributed`` every process calls this, each with its own part of the
    data, which may be empty; all get the network that one process would get from all of it. Parts
    (``config.parts``) and detectors are each process's own.

    Args:
        model: any module of tensors, or of lists, tuples and dicts of tensors, that returns the like; or the
            path of an .onnx file.
        calib_loader: batches as tensors, (input, label) pairs, dicts of the model's arguments or
            :class:`~snnconvert.inputs.Inputs`, or one tensor [N, ...]. For the detectors in torchvision lists of
            images [C, H, W], or (images, targets) pairs. Without any data,
            :class:`NoData(example) <snnconvert.calibration.no_data.NoData>`: see there what it costs.
        config: the settings; defaults to ``ConversionConfig()``: 2-bit spikes, 4 steps, 8-bit weights.
        transform: turns an item of the loader into an input tensor, a dict or Inputs.
        progress: show a progress bar on stderr if it is a terminal.
        validation: another loader on which ``config.max_drop`` is measured; by default the calibration loader.

    Returns:
        The spiking network on the model's device, in the model's type, in evaluation mode. If ``config.parts``
        names parts of the model, or the model is one of torchvision's detectors, a
        :class:`~snnconvert.hybrid.HybridModel` whose parts are spiking networks.

    Raises:
        InputError: on an empty loader, NaN or Inf in its images, a file that can't be read, or NoData for a network
            that takes no images or is converted by parts.
        ConversionError: if the network can't be captured, none of its layers would spike, activations
            reach NaN or Inf, or a sum of currents can't be proven exact.
        ConfigurationError: if an override matches no layer, or an objective can't be met.
    """
    network = _network(model)
    if _is_taken_apart(network, config):
        return convert_parts(network, calib_loader, (), config, transform=transform, progress=progress)
    ending = finisher(calib_loader, transform, validation, progress=progress)
    return convert_whole(network, calib_loader, config, transform=transform, progress=progress, finisher=ending)


def calibrate(
    prepared: PreparedConversion,
    calib_loader: Iterable[Any] | Tensor | NoData,
    *,
    transform: Callable[[Any], Any] | None = None,
    progress: bool = True,
    validation: Iterable[Any] | Tensor | None = None,
) -> SpikingModel:
    """The second half of :func:`convert`: allocation of widths, thresholds, neurons, weights, repair and report.

    Raises:
        InputError: as :func:`convert`.
        ConversionError: if activations reach NaN or Inf, or a sum of currents can't be proven exact.
        ConfigurationError: if an objective can't be met.
    """
    ending = finisher(calib_loader, transform, validation, progress=progress)
    return calibrate_prepared(prepared, calib_loader, transform=transform, progress=progress, finisher=ending)


def _is_taken_apart(network: nn.Module, config: ConversionConfig | None) -> bool:
    """Whether a network is converted by parts."""
    return bool(config is not None and config.parts) or detector_parts(network) is not None


def _network(model: nn.Module | str | Path) -> nn.Module:
    """The module itself, or that of an .onnx file."""
    if isinstance(model, nn.Module):
        return model
    if not is_onnx(model):
        raise InputError(f"{model} is no .onnx file: give a torch module or the path of an .onnx file")
    return load_onnx(model).module
