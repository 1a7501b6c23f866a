"""Conversion by parts: submodules become spiking networks where the model as a whole can't be captured."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.allocation.finish import finish_part
from snnconvert.calibration.no_data import NoData
from snnconvert.calibration.statistics.batches import checked, input_batches, items_of
from snnconvert.calibration.statistics.collect import Collector
from snnconvert.config import ConversionConfig
from snnconvert.conversion import collector_of, with_progress
from snnconvert.convert.capture_checks import frozen_copy
from snnconvert.convert.plan import Plan
from snnconvert.convert.signature import parameters_of
from snnconvert.convert.structure import flatten_inputs, unflatten_inputs
from snnconvert.detectors import detector_inputs, detector_parts
from snnconvert.errors import ConfigurationError, ConversionError, InputError, SnnConvertError, first_line
from snnconvert.hybrid import HybridModel, Outside, replace_parts
from snnconvert.inputs import Inputs
from snnconvert.outside import OutsideMacs, outside_modules
from snnconvert.preparation import PreparedConversion, placement, prepare
from snnconvert.spiking_model import SpikingModel

_MOST_TRIALS = 16


def convert_parts(
    model: nn.Module,
    calib_loader: Iterable[Any] | Tensor | NoData,
    parts: Sequence[str] = (),
    config: ConversionConfig | None = None,
    *,
    transform: Callable[[Any], Any] | None = None,
    progress: bool = True,
) -> HybridModel:
    """Converts submodules of a model, each into a spiking network of its own, in a copy of the model.

    The model runs on the calibration inputs twice at most: on the first ones, to see what each part is
    called with, and once on all of them, while each part's statistics are collected; nothing but a small
    sample of the parts' inputs is kept. Heights and widths of the parts' inputs are dynamic where they can be.

    Args:
        model: the network, which is left untouched.
        calib_loader: as for :func:`snnconvert.convert`.
        parts: names of submodules; by default those of ``config``, or of a detector of torchvision the ones
            that are neural networks.
        config: the settings; overrides name layers by their full names, "backbone.body.conv1".
        transform: turns an item of the loader into inputs.
        progress: show a progress bar on stderr if it is a terminal.

    Raises:
        InputError: on an empty loader, NaN or Inf in its images, or NoData.
        ConfigurationError: if a part isn't in the model or inside another one, or an override matches no layer.
        ConversionError: if a part can't be converted, or none can, naming it.
    """
    if isinstance(calib_loader, NoData):
        raise InputError("parts are calibrated on what the whole model gives them: give calibration data")
    config = config or ConversionConfig()
    return _PartsConversion(model, tuple(parts) or config.parts, config).run(calib_loader, transform, progress)


def plan_parts(
    model: nn.Module,
    examples: Iterable[Any] | Tensor,
    parts: Sequence[str] = (),
    config: ConversionConfig | None = None,
) -> dict[str, Plan]:
    """What :func:`convert_parts` would do, without calibration: the plan of each part it can convert.

    Args:
        model: the network, which is left untouched.
        examples: items of a loader, as for :func:`convert_parts`; a few are enough.
        parts: as there.
        config: as there.

    Raises:
        InputError: as :func:`convert_parts`.
        ConfigurationError: likewise.
        ConversionError: likewise.
    """
    config = config or ConversionConfig()
    return _PartsConversion(model, tuple(parts) or config.parts, config).plans(examples)


class _PartsConversion:
    def __init__(self, model: nn.Module, parts: tuple[str, ...], config: ConversionConfig) -> None:
        self.detector = detector_parts(model)
        self.is_required = bool(parts)
        self.names = _checked_names(model, parts or (self.detector.parts if self.detector else ()))
        self.config = config
        self.parameters = parameters_of(model)
        self.model = frozen_copy(model)
        self.device, self.dtype = placement(self.model)
        self.modules = {name: self.model.get_submodule(name) for name in self.names}
        self.left: dict[str, str] = dict(self.detector.outside) if self.detector else {}

    def run(
        self, loader: Iterable[Any] | Tensor, transform: Callable[[Any], Any] | None, progress: bool
    ) -> HybridModel:
        calls = self._calls(loader, transform)
        seen, examples = self._examples(calls)
        prepared = self._prepared(examples)
        collectors = {name: collector_of(item) for name, item in prepared.items()}
        macs = OutsideMacs(self.model, tuple(prepared))
        self._collect(prepared, collectors, macs, with_progress(chain(seen, calls), loader, progress))
        parts = {name: finish_part(item, collectors[name].statistics()) for name, item in prepared.items()}
        coverage = _coverage(parts, collectors, macs)
        outside = [
            Outside(name, reason) for name, reason in outside_modules(self.model, tuple(parts), self.left).items()
        ]
        replace_parts(self.model, parts)
        return HybridModel(self.model, tuple(parts), outside, coverage).eval()

    def plans(self, loader: Iterable[Any] | Tensor) -> dict[str, Plan]:
        _, examples = self._examples(self._calls(loader, None))
        return {name: item.plan for name, item in self._prepared(examples).items()}

    def _calls(self, loader: Iterable[Any] | Tensor, transform: Callable[[Any], Any] | None) -> Iterator[Inputs]:
        if self.detector is None:
            yield from input_batches(loader, transform, self.parameters)
            return
        for index, item in enumerate(items_of(loader)):
            inputs = detector_inputs(item if transform is None else transform(item), index)
            yield checked(inputs, index)

    def _examples(self, calls: Iterator[Inputs]) -> tuple[list[Inputs], dict[str, Inputs]]:
        """The first calls of the model, until each part was called with a sample, and these calls of the parts."""
        examples: dict[str, Inputs] = {}

        def keep(name: str, inputs: Inputs) -> None:
            if name not in examples and _samples(inputs) > 0:
                examples[name] = _detached(inputs)

        seen: list[Inputs] = []
        with _Hooks(self.modules, keep):
            for inputs in calls:
                seen.append(inputs)
                self._run(inputs)
                if len(examples) == len(self.names) or len(seen) == _MOST_TRIALS:
                    break
        if not seen:
            raise InputError("the calibration loader is empty: give it at least one batch")
        return seen, examples

    def _run(self, inputs: Inputs) -> None:
        leaves, structure = flatten_inputs(inputs, "the input")
        placed = [leaf.to(self.device, self.dtype if leaf.is_floating_point() else None) for leaf in leaves]
        call = unflatten_inputs(structure, placed)
        try:
            with torch.no_grad():
                self.model(*call.args, **call.kwargs)
        except SnnConvertError:
            raise
        except Exception as error:  # the user's own model may raise anything
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
            raise ConversionError(
                f"{type(self.model).__name__} fails on inputs of shape {shapes}: {first_line(error)}"
            ) from error

    def _prepared(self, examples: dict[str, Inputs]) -> dict[str, PreparedConversion]:
        found: dict[str, PreparedConversion] = {}
        used: set[str] = set()
        for name in self.names:
            try:
                if name not in examples:
                    raise ConversionError(f"none of the first {_MOST_TRIALS} calibration inputs reaches it")
                found[name] = prepare(
                    self.modules[name], examples[name], self.config, sizes="where possible", prefix=f"{name}."
                )
            except ConversionError as error:
                if self.is_required:
                    raise ConversionError(f"part {name}: {error}") from error
                self.left[name] = str(error)
                continue
            used |= found[name].patterns
        if not found:
            raise ConversionError(
                f"no part can be converted: {'; '.join(f'{name}: {self.left[name]}' for name in self.names)}"
            )
        unused = sorted(set(self.config.overrides) - used)
        if unused:
            raise ConfigurationError(f"override {unused[0]!r} matches no layer of the parts {', '.join(found)}")
        return found

    def _collect(
        self,
        prepared: dict[str, PreparedConversion],
        collectors: dict[str, Collector],
        macs: OutsideMacs,
        calls: Iterable[Inputs],
    ) -> None:
        def update(name: str, inputs: Inputs) -> None:
            try:
                collectors[name].update(prepared[name].signature.flatten(inputs.args, inputs.kwargs))
            except InputError as error:
                why = "".join(f" ({note})" for note in prepared[name].notes)
                raise InputError(f"part {name}: {error}{why}") from None

        with _Hooks({name: self.modules[name] for name in prepared}, update), macs:
            for inputs in calls:
                self._run(inputs)


class _Hooks:
    """Shows the inputs of every call of some modules to a function while the context lasts."""

    def __init__(self, modules: dict[str, nn.Module], show: Callable[[str, Inputs], None]) -> None:
        self._modules, self._show = modules, show
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> None:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._hook(name), with_kwargs=True))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            self._show(name, Inputs(*args, **kwargs))

        return hook


def _checked_names(model: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if not names:
        raise ConfigurationError(f"name the parts of {type(model).__name__} to convert, such as {known[:3]}")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"; near matches: {', '.join(near)}" if near else ""
            raise ConfigurationError(f"the model has no submodule {name!r}{hint}")
        around = [other for other in names if name.startswith(f"{other}.")]
        if around or list(names).count(name) > 1:
            raise ConfigurationError(f"part {name!r} is inside part {(around or [name])[0]!r}: name one of them")
    return tuple(names)


def _samples(inputs: Inputs) -> int:
    leaves, _ = flatten_inputs(inputs, "the input")
    sizes = [leaf.shape[0] for leaf in leaves if leaf.is_floating_point() and leaf.dim() > 0]
    return sizes[0] if sizes else 0


def _detached(inputs: Inputs) -> Inputs:
    leaves, structure = flatten_inputs(inputs, "the input")
    return unflatten_inputs(structure, [leaf.detach().clone() for leaf in leaves])


def _coverage(parts: dict[str, SpikingModel], collectors: dict[str, Collector], macs: OutsideMacs) -> float:
    """Share of the multiply-accumulates on spikes: of each part its samples times those of one, and of the rest."""
    spiking = sum(part.plan.spiking_macs * collectors[name].count for name, part in parts.items())
    total = sum(part.plan.total_macs * collectors[name].count for name, part in parts.items()) + macs.total
    return spiking / total if total else 0.0
