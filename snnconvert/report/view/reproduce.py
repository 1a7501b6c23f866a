"""The command that converts the same network the same way."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from snnconvert.config import ConversionConfig
from snnconvert.energy.profile import DEFAULT_PROFILE
from snnconvert.report.schema import ReportData
from snnconvert.report.view.hardware import shipped_profile

_DEFAULTS = ConversionConfig().to_dict()
_NO_OPTION = ("version", "parts", "dynamic_sizes", "overrides")
_RANDOM, _CHECKPOINT, _ONNX, _DIGITS = "random", "checkpoint ", "onnx ", "digits"
_IMAGES = 128


def command_line(report: ReportData) -> str:
    """``snnconvert MODEL …`` with every setting that isn't the default; "" where only Python can say it.

    Widths that were allocated are left to the allocation; labelled images of the user's own are named IMAGES.
    """
    config = report.config
    overrides = _told_overrides(report)
    converted_after_all = any(given.get("analog") is False for given in overrides.values())
    if not report.model or converted_after_all or any(config.get(name) for name in ("parts", "dynamic_sizes")):
        return ""
    network = report.weights.removeprefix(_ONNX) if report.weights.startswith(_ONNX) else report.model
    options = [*_settings(config), *_overrides(overrides), *_sources(report)]
    return shlex.join(["snnconvert", network, *options])


def _told_overrides(report: ReportData) -> dict[str, Mapping[str, Any]]:
    """The overrides less those that an allocation found."""
    found = {} if report.allocation is None else report.allocation.overrides
    allocated = {re.escape(layer): dict(widths) for layer, widths in found.items()}
    given = report.config.get("overrides", {})
    return {
        pattern: values
        for pattern, values in given.items()
        if {name: value for name, value in values.items() if value is not None} != allocated.get(pattern)
    }


def _settings(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if name in _NO_OPTION or value == _DEFAULTS.get(name) or value is None:
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{option}" if value else f"--no-{option}"
        else:
            yield from (f"--{option}", _spelled(value))


def _spelled(value: Any) -> str:
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def _overrides(overrides: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for pattern, given in overrides.items():
        told = {name: given[name] for name in ("bits", "T", "weight_bits", "neuron") if given.get(name) is not None}
        if told:
            yield from ("--override", f"{pattern}:{','.join(f'{name}={value}' for name, value in told.items())}")
        if given.get("analog"):
            yield from ("--keep-analog", pattern)


def _sources(report: ReportData) -> Iterator[str]:
    if report.weights == _RANDOM:
        yield "--random-weights"
    elif report.weights.startswith(_CHECKPOINT):
        yield from ("--checkpoint", report.weights.removeprefix(_CHECKPOINT))
    if report.calibration_images == 0:
        yield from ("--calib", "none")
    elif report.calibration_images != _IMAGES:
        yield from ("--calib-images", str(report.calibration_images))
    if report.metric is not None and report.model != _DIGITS:
        yield from ("--data", "IMAGES")
    shipped = shipped_profile(report.energy)
    if shipped is not None and shipped[0] != DEFAULT_PROFILE:
        yield from ("--hardware", shipped[0])
