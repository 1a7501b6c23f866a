"""A network converted by parts, measured in an engine: its task's metric, speed, and how exact the parts are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.engine_evaluation import (
    PACKED,
    STEPWISE,
    EngineReport,
    PackedComparison,
    added_layers,
    check_engine,
    largest_difference,
)
from snnconvert.engines.integer.compiled import CompiledNetwork, LayerAgreement
from snnconvert.engines.integer.runtime import FloatOperation
from snnconvert.engines.stepwise import is_exact
from snnconvert.errors import InputError
from snnconvert.hybrid import HybridModel
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.engine_scores import TaskScorer


@dataclass(frozen=True)
class _Engine:
    """A hybrid network in an engine.

    Attributes:
        call: runs it.
        parts: its compiled parts; none of torch's own engines.
    """

    call: Callable[..., Any]
    parts: Mapping[str, CompiledNetwork]


def evaluate_hybrid(
    hybrid: HybridModel,
    engine: str,
    items: Iterable[tuple[list[Tensor], Any]],
    scorer: TaskScorer,
    *,
    threads: int | None = None,
    verify: bool = False,
) -> EngineReport:
    """Runs a detector whose parts are spiking networks on images in an engine.

    Seconds are those of the whole detector, its code between the parts included.

    Args:
        hybrid: the detector.
        engine: one of :data:`~snnconvert.engine_evaluation.ALL_ENGINES`, for every part.
        items: (images [C, H, W] in a list, targets or None) of each call.
        scorer: what judges its outputs.
        threads: of one call of a part; None: what the engine thinks best.
        verify: whether to compare all words of the parts with those of the packed parts, on the same inputs.

    Raises:
        ConfigurationError: on an unknown engine.
        EngineError: if the engine isn't installed, or can't run a part exactly, naming part and layer.
        InputError: if there are no images, or words are to be compared that there aren't.
    """
    check_engine(engine, verify=verify)
    running = _in_engine(hybrid, engine, threads)
    seconds, images, comparison = 0.0, 0, _PartsComparison(running.parts)
    with torch.no_grad():
        for inputs, targets in items:
            if not images:
                running.call(inputs)
            start = time.perf_counter()
            output = running.call(inputs)
            seconds += time.perf_counter() - start
            images += len(inputs)
            scorer.add(output, targets, cache(partial(hybrid, inputs)))
            if verify:
                comparison.add(hybrid, inputs)
    if not images:
        raise InputError("there are no images to evaluate on")
    compiled = running.parts.values()
    return EngineReport(
        engine=engine,
        images=images,
        accuracy=None,
        packed=comparison.result() if verify else None,
        seconds=seconds,
        compile_seconds=sum(part.compile_seconds for part in compiled) if compiled else None,
        from_cache=all(part.from_cache for part in compiled) if compiled else None,
        notes=_notes(hybrid, engine, running.parts),
        float_operations=_float_operations(running.parts),
        metrics=scorer.scores(),
    )


def _in_engine(hybrid: HybridModel, engine: str, threads: int | None) -> _Engine:
    if engine == PACKED:
        return _Engine(hybrid, {})
    if engine == STEPWISE:
        return _Engine(hybrid.with_calls({name: partial(_stepped, part) for name, part in hybrid.parts.items()}), {})
    compiled = hybrid.compile(engine, threads=threads)
    return _Engine(compiled, compiled.parts)


def _stepped(part: SpikingModel, *args: Any, **kwargs: Any) -> Any:
    return part.simulate(*args, **kwargs).output


def _notes(hybrid: HybridModel, engine: str, compiled: Mapping[str, CompiledNetwork]) -> tuple[str, ...]:
    said = dict.fromkeys(note for part in compiled.values() for note in part.notes)
    uneven = [name for name, part in hybrid.parts.items() if engine == PACKED and not is_exact(part.network)]
    return (*said, *(f"not all neurons of {name} are packed: it runs step by step" for name in uneven))


def _float_operations(compiled: Mapping[str, CompiledNetwork]) -> tuple[FloatOperation, ...]:
    return tuple(
        replace(operation, name=f"{name}: {operation.name}")
        for name, part in compiled.items()
        for operation in part.float_operations()
    )


class _PartsComparison:
    """Words and outputs of compiled parts beside those of the packed parts, for what the packed detector gives them."""

    def __init__(self, compiled: Mapping[str, CompiledNetwork]) -> None:
        self._compiled = compiled
        self._layers: dict[str, list[LayerAgreement]] = {name: [] for name in compiled}
        self._largest = 0.0

    def add(self, hybrid: HybridModel, images: list[Tensor]) -> None:
        """One call of the packed detector."""
        hooks = [
            part.register_forward_hook(partial(self._compare, name), with_kwargs=True)
            for name, part in hybrid.parts.items()
        ]
        try:
            hybrid(images)
        finally:
            for hook in hooks:
                hook.remove()

    def result(self) -> PackedComparison:
        """The counts of all calls."""
        layers = tuple(
            replace(layer, layer=f"{name}: {layer.layer}") for name, found in self._layers.items() for layer in found
        )
        return PackedComparison(None, self._largest, layers)

    def _compare(self, name: str, part: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        del part
        compiled = self._compiled[name]
        self._largest = max(self._largest, largest_difference(output, compiled(*args, **kwargs)))
        self._layers[name] = added_layers(self._layers[name], compiled.agreement(*args, **kwargs))
