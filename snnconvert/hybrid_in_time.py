"""A network converted by parts, measured in time: its task's metric, and how the layers of its parts fire."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from snnconvert.engines.recording import LayerRecord
from snnconvert.engines.stepwise import Simulation
from snnconvert.engines.timeline import Latency
from snnconvert.errors import InputError
from snnconvert.hybrid import HybridModel
from snnconvert.in_time import MAP, AnytimeCurve, LayerInTime, LayerTally, TimeReport
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.engine_scores import DetectionScorer


def measure_hybrid_in_time(
    hybrid: HybridModel,
    items: Iterable[tuple[list[Tensor], Any]],
    scorer: DetectionScorer,
    *,
    latency: Latency = "streaming",
) -> TimeReport:
    """Simulates every part of a detector and counts.

    A part starts when the one before is done, since there is code between them that takes real numbers: ticks add up,
    and the curve has a single point, at the end. Layers are called "part: layer"; their first tick is the part's own.

    Args:
        hybrid: the detector.
        items: (images [C, H, W] in a list, targets or None) of each call.
        scorer: what judges the boxes.
        latency: see :meth:`~snnconvert.spiking_model.SpikingModel.simulate`.

    Raises:
        InputError: if there are no images.
    """
    parts = {name: _Part(name, part, latency) for name, part in hybrid.parts.items()}
    detector, images, labelled = hybrid.with_calls({name: part.run for name, part in parts.items()}), 0, True
    with torch.no_grad():
        for inputs, targets in items:
            scorer.add(detector(inputs), targets, cache(partial(hybrid, inputs)))
            images, labelled = images + len(inputs), labelled and targets is not None
    ran = [part for part in parts.values() if part.last is not None]
    if not images or not ran:
        raise InputError("there are no images to simulate")
    scores = scorer.scores() if labelled else ()
    ticks = sum(part.ticks for part in ran)
    return TimeReport(
        latency=latency,
        ticks=ticks,
        curve=AnytimeCurve((ticks,), (scores[0].value,) if scores else None, (1.0,), images, MAP),
        layers=tuple(layer for part in ran for layer in part.layers()),
        adapters=tuple(
            dataclasses.replace(adapter, layer=f"{part.name}: {adapter.layer}")
            for part in ran
            if part.last is not None
            for adapter in part.last.adapters
        ),
    )


class _Part:
    """One part, simulated whenever it is called."""

    def __init__(self, name: str, part: SpikingModel, latency: Latency) -> None:
        self.name, self._part, self._latency = name, part, latency
        self.last: Simulation | None = None
        self._records: dict[str, LayerRecord] = {}
        self._tallies: dict[str, LayerTally] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """What the part returns."""
        simulation = self._part.simulate(*args, latency=self._latency, record=("counts", "unevenness"), **kwargs)
        self.last = simulation
        for name, record in simulation.layers.items():
            self._records[name] = record
            self._tallies.setdefault(name, LayerTally()).add(record)
        return simulation.output

    @property
    def ticks(self) -> int:
        """Until its answer."""
        return 0 if self.last is None else self.last.ticks

    def layers(self) -> list[LayerInTime]:
        """How its layers fire."""
        return [self._tallies[name].layer(f"{self.name}: {name}", record) for name, record in self._records.items()]
