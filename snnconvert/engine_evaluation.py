"""A converted network measured in an engine: accuracy, speed, and where it differs from the packed one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnconvert.convert.structure import flatten
from snnconvert.engines.integer.compiled import CompiledNetwork, LayerAgreement
from snnconvert.engines.integer.runtime import ENGINES, FloatOperation
from snnconvert.engines.stepwise import is_exact
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.evaluation import Evaluation, compare_outputs
from snnconvert.report.statistics import proportion_ci95
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.engine_scores import TaskScore, TaskScorer

SCHEMA = "snnconvert.eval/1"
PACKED, STEPWISE = "packed", "stepwise"
ALL_ENGINES: tuple[str, ...] = (PACKED, STEPWISE, *ENGINES)

Batches = Iterable[tuple[Any, Any]]


@dataclass(frozen=True)
class Accuracy:
    """Share of images decided right, with its 95 % interval (Wilson)."""

    top1: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class PackedComparison:
    """How an engine's outputs compare with those of the packed network on the same images.

    Attributes:
        top1_agreement: share of equal decisions; None where it isn't clear which of several outputs decides.
        largest_difference: of any floating output.
        layers: words of every layer of neurons, in the order of the graph; None if they weren't compared.
    """

    top1_agreement: float | None
    largest_difference: float
    layers: tuple[LayerAgreement, ...] | None

    @property
    def mismatches(self) -> int | None:
        """How many words differ; None if they weren't compared."""
        return None if self.layers is None else sum(layer.mismatches for layer in self.layers)


@dataclass(frozen=True)
class EngineReport:
    """A network measured in an engine.

    Attributes:
        engine: its name.
        images: number of images.
        accuracy: None without labels, and where the task has metrics of its own.
        packed: the comparison with the packed network; None if it wasn't asked for.
        seconds: in the engine alone, after a first batch that doesn't count, on this machine.
        compile_seconds: how long building and loading took; None where nothing is compiled.
        from_cache: whether the built model came from the cache; None where nothing is compiled.
        notes: what the engine says about this machine.
        float_operations: what it computes in floating point, by its own account.
        metrics: of the task, where it isn't classification; empty where nothing defines one.
    """

    engine: str
    images: int
    accuracy: Accuracy | None
    packed: PackedComparison | None
    seconds: float
    compile_seconds: float | None = None
    from_cache: bool | None = None
    notes: tuple[str, ...] = ()
    float_operations: tuple[FloatOperation, ...] = ()
    metrics: tuple[TaskScore, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Throughput on this machine."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form; the schema comes first, floating operations are names by kind."""
        values = dataclasses.asdict(self)
        if self.packed is not None:
            values["packed"]["mismatches"] = self.packed.mismatches
        values["images_per_second"] = self.images_per_second
        values["float_operations"] = names_by_kind(self.float_operations)
        return {"schema": SCHEMA, **values}


def names_by_kind(operations: Iterable[FloatOperation]) -> dict[str, list[str]]:
    """The names of operations, by kind."""
    found: dict[str, list[str]] = {}
    for operation in operations:
        found.setdefault(operation.kind, []).append(operation.name)
    return found


def evaluate_engine(
    snn: SpikingModel,
    engine: str,
    batches: Batches,
    *,
    threads: int | None = None,
    verify: bool = False,
    scorer: TaskScorer | None = None,
) -> EngineReport:
    """Runs a network on images in an engine.

    Args:
        snn: the network.
        engine: one of ALL_ENGINES.
        batches: (images, labels or None). Unlabelled ones are compared with the packed network.
        scorer: what judges outputs by labels of another kind than classes; None: the largest logit decides.
        threads: of one call; None: what the engine thinks best.
        verify: whether to compare all words and outputs with the packed network.

    Raises:
        ConfigurationError: on an unknown engine.
        EngineError: if the engine isn't installed, or can't run the network exactly, naming the layer.
        InputError: if there are no images, or words are to be compared that there aren't.
    """
    check_engine(engine, verify=verify)
    compiled = None if engine in (PACKED, STEPWISE) else snn.compile(engine, threads=threads)
    observed = compiled if verify else None
    run = _Run(snn, _caller(snn, engine, compiled), observed, compares=engine != PACKED, scorer=scorer)
    with torch.no_grad():
        evaluation, is_labelled = run.over(batches)
    return EngineReport(
        engine=engine,
        images=evaluation.images,
        accuracy=_accuracy(evaluation) if is_labelled and scorer is None else None,
        packed=run.comparison(evaluation),
        seconds=run.seconds,
        compile_seconds=None if compiled is None else compiled.compile_seconds,
        from_cache=None if compiled is None else compiled.from_cache,
        notes=_notes(snn, engine, compiled),
        float_operations=() if compiled is None else compiled.float_operations(),
        metrics=() if scorer is None else scorer.scores(),
    )


def check_engine(engine: str, *, verify: bool) -> None:
    """Refuses an engine that there isn't, or one whose words can't be compared with the packed network's.

    Raises:
        ConfigurationError: on an unknown engine.
        InputError: if words are to be compared that there aren't.
    """
    if engine not in ALL_ENGINES:
        raise ConfigurationError(f"engine must be one of {', '.join(ALL_ENGINES)}, got {engine!r}")
    if verify and engine not in ENGINES:
        raise InputError(
            f"--verify compares integer engines with the packed network, {engine} is none: choose {', '.join(ENGINES)}"
        )


def _caller(snn: SpikingModel, engine: str, compiled: CompiledNetwork | None) -> Callable[[Tensor], Any]:
    if compiled is not None:
        return compiled
    return (lambda images: snn.simulate(images).output) if engine == STEPWISE else snn


def _notes(snn: SpikingModel, engine: str, compiled: CompiledNetwork | None) -> tuple[str, ...]:
    if compiled is not None:
        return compiled.notes
    if engine == PACKED and not is_exact(snn.network):
        return ("not all its neurons are packed: it runs step by step",)
    return ()


def _accuracy(evaluation: Evaluation) -> Accuracy:
    right = evaluation.both + evaluation.only_snn
    return Accuracy(right / evaluation.images, proportion_ci95(right, evaluation.images))


class _Outputs(NamedTuple):
    """Of one batch: the size, the reference's and the engine's output, and the labels."""

    images: int
    reference: Any
    output: Any
    labels: Tensor | None


class _Run:
    """An engine over batches: seconds, and sums of what is compared."""

    def __init__(
        self,
        snn: SpikingModel,
        call: Callable[[Tensor], Any],
        observed: CompiledNetwork | None,
        *,
        compares: bool,
        scorer: TaskScorer | None,
    ) -> None:
        self._snn, self._call, self._observed, self._compares = snn, call, observed, compares
        self._scorer = scorer
        self._layers: list[LayerAgreement] = []
        self._largest = 0.0
        self._compared = False
        self.seconds = 0.0

    def over(self, batches: Batches) -> tuple[Evaluation, bool]:
        """The counts over all batches, and whether they are labelled."""
        labelled: list[bool] = []

        def outputs() -> Iterator[_Outputs]:
            for images, labels in batches:
                if not labelled:
                    self._call(images)
                labelled.append(labels is not None)
                yield self._outputs(images, labels)

        return compare_outputs(outputs()), all(labelled)

    def comparison(self, evaluation: Evaluation) -> PackedComparison | None:
        """With the packed network, if there was one."""
        if not self._compared:
            return None
        share = None if evaluation.agreeing is None else evaluation.agreeing / evaluation.images
        return PackedComparison(share, self._largest, tuple(self._layers) or None)

    def _outputs(self, images: Tensor, targets: Any) -> _Outputs:
        start = time.perf_counter()
        output = self._call(images)
        self.seconds += time.perf_counter() - start
        packed = cache(lambda: self._snn(images))
        if self._scorer is not None:
            self._scorer.add(output, targets, packed)
        labels = targets if self._scorer is None else None
        if self._observed is None and (targets is not None or not self._compares):
            return _Outputs(len(images), output, output, labels)
        self._compared = True
        reference = packed()
        self._largest = max(self._largest, largest_difference(reference, output))
        if self._observed is not None:
            self._layers = added_layers(self._layers, self._observed.agreement(images))
        return _Outputs(len(images), reference, output, labels)


def largest_difference(reference: Any, output: Any) -> float:
    """The largest difference of any element of two outputs' floating tensors."""
    pairs = zip(flatten(reference, "the output")[0], flatten(output, "the output")[0], strict=True)
    return max((float((a - b).abs().max()) for a, b in pairs if a.is_floating_point() and a.numel()), default=0.0)


def added_layers(before: list[LayerAgreement], now: Iterable[LayerAgreement]) -> list[LayerAgreement]:
    """The counts of both, layer by layer."""
    if not before:
        return list(now)
    return [
        LayerAgreement(old.layer, old.words + new.words, old.mismatches + new.mismatches, max(old.largest, new.largest))
        for old, new in zip(before, now, strict=True)
    ]
