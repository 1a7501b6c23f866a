"""A network measured in time: its accuracy at every tick, and how its layers fire."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnconvert.engines.recording import LayerRecord, Unevenness
from snnconvert.engines.stepwise import Simulation
from snnconvert.engines.timeline import Adapter, Latency
from snnconvert.errors import ArtifactError, InputError, first_line
from snnconvert.neurons.registry import spelled
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.engine_scores import ReadoutOverlaps
from snnconvert.tasks.segmentation import logits_of

SCHEMA = "snnconvert.simulation/1"
METRICS = ACCURACY, MIOU, MAP = "accuracy", "mIoU", "mAP"


@dataclass(frozen=True)
class AnytimeCurve:
    """What the network would have answered at every tick of its readout.

    Attributes:
        ticks: ticks at which it can be read out, ascending.
        accuracy: share of images decided right at each tick, or the task's own metric; None without labels.
        agreement: share of images, or of their pixels, whose decision is the final one already.
        images: number of images.
        metric: what ``accuracy`` is: "accuracy", "mIoU" or "mAP".
    """

    ticks: tuple[int, ...]
    accuracy: tuple[float, ...] | None
    agreement: tuple[float, ...]
    images: int
    metric: str = ACCURACY

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AnytimeCurve:
        """Reads what ``dataclasses.asdict`` gives.

        Raises:
            TypeError: if a field is missing or unknown, or isn't of its kind.
            KeyError: likewise.
            ValueError: if there are no ticks, or not as many shares as ticks.
        """
        ticks, agreement = tuple(map(int, data["ticks"])), tuple(map(float, data["agreement"]))
        accuracy = None if data["accuracy"] is None else tuple(map(float, data["accuracy"]))
        if not ticks or any(len(shares) != len(ticks) for shares in (agreement, accuracy) if shares is not None):
            raise ValueError("there must be as many shares as ticks")
        if data.get("metric", ACCURACY) not in METRICS:
            raise ValueError(f"there is no metric {data['metric']!r}")
        return cls(**{**data, "ticks": ticks, "accuracy": accuracy, "agreement": agreement})


def read_anytime_curve(path: str | Path) -> AnytimeCurve:
    """The curve of a simulation, from a file that ends with the JSON line of ``snnconvert simulate``.

    Raises:
        ArtifactError: if it holds none, or is damaged.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").strip().splitlines()
        data = json.loads(lines[-1] if lines else "")
        if data["schema"] != SCHEMA:
            raise ArtifactError(f"{path}: schema {data['schema']!r} is not {SCHEMA!r}")
        return AnytimeCurve.from_dict(data["curve"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is no simulation: {first_line(error)}") from None


@dataclass(frozen=True)
class LayerInTime:
    """How one layer of neurons fires.

    Attributes:
        name: its name.
        code: its code.
        T: time steps of its window.
        start: tick of its first spike.
        firing_rate: share of non-zero spikes over neurons, images and steps.
        step_rates: the same at each step.
        unevenness: what it fired beside the closed form of the same current; None for event frames.
    """

    name: str
    code: str
    T: int
    start: int
    firing_rate: float
    step_rates: tuple[float, ...]
    unevenness: Unevenness | None


@dataclass(frozen=True)
class TimeReport:
    """A network measured in time, over all images.

    Attributes:
        latency: the latency model, "streaming" or "window".
        ticks: ticks until the answer.
        curve: accuracy and agreement against time.
        layers: neuron layers in the order of the graph.
        adapters: where values of different timing were brought together.
    """

    latency: Latency
    ticks: int
    curve: AnytimeCurve
    layers: tuple[LayerInTime, ...]
    adapters: tuple[Adapter, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form; the schema comes first."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def measure_in_time(
    snn: SpikingModel,
    batches: Iterable[tuple[Tensor, Any]],
    *,
    latency: Latency = "streaming",
    overlaps: ReadoutOverlaps | None = None,
) -> TimeReport:
    """Simulates every batch and counts; the counts don't depend on the batches.

    Args:
        snn: the spiking network, one that returns logits [N, classes].
        batches: (inputs as :meth:`SpikingModel.simulate` takes them, labels int64 [N] or None), on the network's
            device; a label below 0 counts as wrong.
        latency: see :meth:`~snnconvert.spiking_model.SpikingModel.simulate`.
        overlaps: of a network for segmentation, whose output is [N, classes, H, W]; labels are masks int64 [H, W]
            then, and mIoU and the share of pixels take the place of accuracy and the share of images.

    Raises:
        InputError: if there are no images, labels don't fit them, or the output isn't [N, classes].
    """
    tally = _Tally(overlaps)
    for inputs, labels in batches:
        if inputs.numel():
            tally.add(snn.simulate(inputs, latency=latency, record=("counts", "unevenness")), labels)
    return tally.report()


class _Tally:
    def __init__(self, overlaps: ReadoutOverlaps | None) -> None:
        self._overlaps = overlaps
        self._last: Simulation | None = None
        self._images = 0
        self._labelled = True
        self._right: Tensor | int = 0
        self._agreeing: Tensor | int = 0
        self._layers: dict[str, LayerTally] = {}

    def add(self, simulation: Simulation, labels: Any) -> None:
        readout = simulation.readout if self._overlaps is None else logits_of(simulation.readout)
        decisions = self._decisions(readout)
        self._labelled &= labels is not None
        if labels is not None and self._overlaps is not None:
            self._overlaps.add(readout, labels)
        elif labels is not None:
            self._right = self._right + _right(decisions, labels)
        self._last = simulation
        self._images += decisions.shape[1]
        self._agreeing = self._agreeing + (decisions == decisions[-1]).flatten(2).double().mean(2).sum(1)
        for name, record in simulation.layers.items():
            self._layers.setdefault(name, LayerTally()).add(record)

    def report(self) -> TimeReport:
        if self._last is None:
            raise InputError("there are no images to simulate")
        last = self._last
        curve = AnytimeCurve(
            last.readout_ticks,
            self._accuracy() if self._labelled else None,
            self._shares(self._agreeing),
            self._images,
            ACCURACY if self._overlaps is None else MIOU,
        )
        return TimeReport(
            latency=last.latency,
            ticks=last.ticks,
            curve=curve,
            layers=tuple(self._layers[name].layer(name, record) for name, record in last.layers.items()),
            adapters=last.adapters,
        )

    def _decisions(self, readout: Tensor) -> Tensor:
        """Of each tick and image, int64 [K, N, 1] or [K, N, H, W]."""
        if readout.dim() == (3 if self._overlaps is None else 5):
            decisions = readout.argmax(2).cpu()
            return decisions[:, :, None] if decisions.dim() == 2 else decisions
        wanted = "accuracy in time needs logits [N, classes]"
        if self._overlaps is not None:
            wanted = "mIoU in time needs logits [N, classes, H, W]"
        raise InputError(f"{wanted}, the network returns {tuple(readout.shape[1:])}")

    def _accuracy(self) -> tuple[float, ...] | None:
        return self._shares(self._right) if self._overlaps is None else self._overlaps.shares()

    def _shares(self, counts: Tensor | int) -> tuple[float, ...]:
        return tuple(count / self._images for count in torch.as_tensor(counts).tolist())


def _right(decisions: Tensor, labels: Tensor) -> Tensor:
    """How many images are decided right at each tick."""
    if labels.shape != decisions.shape[1:2]:
        raise InputError(f"{tuple(labels.shape)} labels for {decisions.shape[1]} images: give one label an image")
    return (decisions[:, :, 0] == labels.cpu()).sum(1)


class LayerTally:
    """Sums over batches of one layer."""

    def __init__(self) -> None:
        self._windows = 0
        self._counts: list[int] = []
        self._differing = self._error = self._square = 0.0
        self._compared = False

    def add(self, record: LayerRecord) -> None:
        """One batch."""
        windows = record.neurons * record.samples
        counts = record.counts or ()
        self._counts = [a + b for a, b in zip(self._counts or [0] * len(counts), counts, strict=True)]
        self._windows += windows
        if record.unevenness is not None:
            self._compared = True
            self._differing += record.unevenness.differing * windows
            self._error += record.unevenness.mean * windows
            self._square += record.unevenness.rms**2 * windows

    def layer(self, name: str, record: LayerRecord) -> LayerInTime:
        """What all batches come to.

        Args:
            name: the layer's.
            record: of one batch, for its code and its first tick.
        """
        windows = max(self._windows, 1)
        rates = tuple(count / windows for count in self._counts)
        uneven = Unevenness(self._differing / windows, self._error / windows, math.sqrt(self._square / windows))
        return LayerInTime(
            name=name,
            code=spelled(record.code),
            T=len(rates),
            start=record.start,
            firing_rate=sum(rates) / max(len(rates), 1),
            step_rates=rates,
            unevenness=uneven if self._compared else None,
        )
