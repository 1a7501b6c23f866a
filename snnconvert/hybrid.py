"""Hybrid networks: a model whose parts are spiking networks, with plain torch code between them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnconvert.artifact.hybrid_store import load_parts, save_parts
from snnconvert.engines.integer.compiled import CompiledNetwork
from snnconvert.errors import ConfigurationError, EngineError
from snnconvert.report.parts_report import PartsReport
from snnconvert.report.report import Report
from snnconvert.spiking_model import SpikingModel, load

_LOSS = "compute_loss"


@dataclass(frozen=True)
class Outside:
    """A module that stays as it is.

    Attributes:
        name: its name in the model; "" is the model's own code.
        reason: why.
    """

    name: str
    reason: str


class HybridModel(nn.Module):
    """A copy of a model in which some submodules are spiking networks; it is called like the model.

    Attributes:
        model: the copy, with spiking networks in the places of its parts.
        outside: the modules that stay as they are.
        coverage: share of the multiply-accumulates whose activations are spikes, over the calibration inputs,
            each part counted at the size it was captured at.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str], outside: Sequence[Outside], coverage: float) -> None:
        super().__init__()
        self.model = model
        self.outside = tuple(outside)
        self.coverage = coverage
        self._names = tuple(parts)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns."""
        return self.model(*args, **kwargs)

    @property
    def parts(self) -> dict[str, SpikingModel]:
        """The spiking networks by their names in the model."""
        found = {name: self.model.get_submodule(name) for name in self._names}
        return {name: part for name, part in found.items() if isinstance(part, SpikingModel)}

    @property
    def report(self) -> dict[str, Report]:
        """The report of each part."""
        return {name: part.report for name, part in self.parts.items()}

    def finish_training(self) -> HybridModel:
        """Rounds what the parts have learned into their integers and drops the parameters; in evaluation mode.

        In training mode, after ``train()``, the parts have parameters and the model is called as its training asks for:
        torchvision's detectors take images and targets and give their losses. What lies outside of the parts stays
        frozen.
        """
        for part in self.parts.values():
            part.finish_training()
        return self.eval()

    def compile(  # type: ignore[override]
        self,
        engine: str = "onnxruntime",
        *,
        threads: int | None = None,
        batch: int | None = None,
        lean: bool = False,
        cache: str | Path | bool = True,
    ) -> CompiledHybrid:
        """Loads every part into a runtime of 8-bit integer kernels; the code between the parts stays as it is.

        What comes back is called like the model, and its parts give the same integers; engines onnxruntime and openvino
        run it on the CPU. It has a copy of what is outside the parts.

        Args:
            engine: as for :meth:`SpikingModel.compile <snnconvert.spiking_model.SpikingModel.compile>`.
            threads: of one call of a part; see there.
            batch: a fixed batch size of every call of every part; None: any, as where parts read proposals.
            lean: give memory back after each call of a part.
            cache: whether built models are kept on disk, found by their content; or the folder for them.

        Raises:
            ConfigurationError: on an unknown engine or a setting out of range.
            EngineError: if the runtime isn't installed, or can't run a part exactly, naming the part and the layer.
        """
        settings: dict[str, Any] = {"threads": threads, "batch": batch, "lean": lean, "cache": cache}
        compiled = {name: _compiled_part(name, part, engine, settings) for name, part in self.parts.items()}
        model = self.with_calls(compiled)
        return CompiledHybrid(model if engine == "torch" else model.cpu(), compiled)

    def with_calls(self, calls: Mapping[str, Callable[..., Any]]) -> nn.Module:
        """A copy of the model with functions in the places of its parts.

        Args:
            calls: a function for every part, called like it, by the part's name.
        """
        places = {id(self.parts[name]): _Place(call).eval() for name, call in calls.items()}
        return copy.deepcopy(self.model, dict(places))

    def save(self, directory: str | Path, *, force: bool = False, report: PartsReport | None = None) -> None:
        """Writes a folder for each part and an index; :meth:`load` reads them. The rest is not saved.

        The folder appears whole or not at all. A ``report`` on the whole is written to its report.json.

        Raises:
            InputError: if the folder exists and isn't empty, unless ``force`` replaces it.
        """
        outside = [{"name": item.name, "reason": item.reason} for item in self.outside]
        save_parts(
            Path(directory),
            {name: part.save for name, part in self.parts.items()},
            outside,
            self.coverage,
            force=force,
            report=None if report is None else report.to_dict(),
        )

    @classmethod
    def load(cls, directory: str | Path, model: nn.Module) -> HybridModel:
        """Puts saved parts into a copy of the model they were converted from.

        Nothing in the folder is executed or unpickled.

        Args:
            directory: the folder.
            model: the original network, which is left untouched.

        Raises:
            ArtifactError: if something is missing, damaged, or of another version.
            ConfigurationError: if the model has no submodule of a part's name.
        """
        index = load_parts(Path(directory))
        hybrid = copy.deepcopy(model).eval()
        device = next((tensor.device for tensor in (*hybrid.parameters(), *hybrid.buffers())), torch.device("cpu"))
        replace_parts(hybrid, {name: load(folder).to(device) for name, folder in index.folders.items()})
        return cls(hybrid, tuple(index.folders), [Outside(*item) for item in index.outside], index.coverage).eval()


class CompiledHybrid:
    """A model whose parts are spiking networks in a runtime; it is called like the model.

    Attributes:
        parts: the compiled networks by their names in the model.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, CompiledNetwork]) -> None:
        self.parts = dict(parts)
        self._model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the hybrid network returns for the same arguments.

        Raises:
            InputError: if a part is called with arguments or shapes it wasn't built for.
        """
        return self._model(*args, **kwargs)


class _Place(nn.Module):
    """A function, such as a compiled network, in the place of a submodule."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self._call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


def _compiled_part(name: str, part: SpikingModel, engine: str, settings: Mapping[str, Any]) -> CompiledNetwork:
    try:
        return part.compile(engine, **settings)
    except EngineError as error:
        raise EngineError(f"part {name}: {error}") from error


def replace_parts(model: nn.Module, parts: Mapping[str, nn.Module]) -> None:
    """Puts modules in the places of a model's submodules, wherever these are used under several names.

    A head that computes its losses from its outputs, such as torchvision's, lends its place that: ``compute_loss``. Its
    weights are gone, so that nothing but losses can come of it.

    Raises:
        ConfigurationError: if there is no submodule of a name.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, part in parts.items():
        if name not in modules or not name:
            raise ConfigurationError(f"the model has no submodule {name!r}")
        if hasattr(modules[name], _LOSS):
            setattr(part, _LOSS, getattr(copy.deepcopy(modules[name]).to("meta"), _LOSS))
        for path, module in modules.items():
            if module is modules[name]:
                model.set_submodule(path, part)
