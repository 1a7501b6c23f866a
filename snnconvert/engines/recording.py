"""Recording: what a simulation keeps of each layer, and nothing that wasn't asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import SpikeCode

Quantity = Literal["spikes", "potentials", "counts", "unevenness"]
QUANTITIES: tuple[str, ...] = get_args(Quantity)
RecordRequest = Collection[str] | Mapping[str, str | Collection[str]]


@dataclass(frozen=True)
class Unevenness:
    """What a layer's neurons fired beside the closed form of the same total current.

    Zero where spikes arrive evenly or the neuron waits for its window; otherwise the unevenness error of
    rate codes (Bu et al., ICLR 2022), leak and hard resets included.

    Attributes:
        differing: share of windows with another value.
        mean: mean difference, fired minus expected, in steps Δ.
        rms: root mean square of the difference, in steps Δ.
    """

    differing: float
    mean: float
    rms: float


@dataclass
class LayerRecord:
    """What was recorded of one neuron layer.

    Attributes:
        code: its code.
        start: tick of its first spike.
        spikes: uint8 or int8 [T, N, ...].
        potentials: float32 [T, N, ...], after each step's reset, in steps Δ of the code.
        counts: non-zero spikes at each step, over all neurons and samples.
        neurons: neurons of one sample.
        samples: samples N.
        unevenness: see :class:`Unevenness`.
    """

    code: SpikeCode
    start: int
    spikes: Tensor | None = None
    potentials: Tensor | None = None
    counts: tuple[int, ...] | None = None
    neurons: int = 0
    samples: int = 0
    unevenness: Unevenness | None = None

    @property
    def firing_rate(self) -> float | None:
        """Share of non-zero spikes over neurons, samples and steps; None if counts were not recorded."""
        if self.counts is None:
            return None
        return sum(self.counts) / max(self.neurons * self.samples * len(self.counts), 1)


@dataclass
class _Kept:
    spikes: list[Tensor] = field(default_factory=list)
    potentials: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    shape: torch.Size = field(default_factory=torch.Size)
    unevenness: Unevenness | None = None


class Recorder:
    """Keeps what was asked for; an observer of the engine's neuron cells.

    Args:
        request: names of quantities ("spikes", "potentials", "counts", "unevenness") for all layers, or a
            mapping from quantity to layer names or regular expressions.
        layers: the names of all neuron layers.

    Raises:
        ConfigurationError: on an unknown quantity, or a pattern that matches no layer.
    """

    def __init__(self, request: RecordRequest, layers: Collection[str]) -> None:
        wanted = dict(request) if isinstance(request, Mapping) else dict.fromkeys(_names(request), ".*")
        self._layers: dict[str, set[str]] = {}
        for quantity, patterns in wanted.items():
            if quantity not in QUANTITIES:
                raise ConfigurationError(f"record takes {', '.join(QUANTITIES)}; got {quantity!r}")
            self._layers[quantity] = _matching(_names(patterns), layers)
        self._kept: dict[str, _Kept] = {}

    def fired(self, layer: str, step: int, spikes: Tensor, potential: Tensor) -> None:
        """Takes one step of one layer."""
        kept = self._kept.setdefault(layer, _Kept())
        kept.shape = spikes.shape
        if self._wants("spikes", layer):
            kept.spikes.append(spikes.cpu())
        if self._wants("potentials", layer):
            kept.potentials.append(potential.float().cpu())
        if self._wants("counts", layer):
            kept.counts.append(int(torch.count_nonzero(spikes)))

    def finished(self, layer: str, fired: Tensor, expected: Tensor) -> None:
        """Takes the values a layer's trains stand for."""
        if self._wants("unevenness", layer):
            error = fired - expected
            self._kept[layer].unevenness = Unevenness(
                differing=float((error.abs() > _ROUNDING).double().mean()),
                mean=float(error.mean()),
                rms=float(error.square().mean().sqrt()),
            )

    def record(self, layer: str, code: SpikeCode, start: int) -> LayerRecord:
        """What was kept of one layer."""
        kept = self._kept.get(layer, _Kept())
        return LayerRecord(
            code=code,
            start=start,
            spikes=torch.stack(kept.spikes) if kept.spikes else None,
            potentials=torch.stack(kept.potentials) if kept.potentials else None,
            counts=tuple(kept.counts) if kept.counts else None,
            neurons=kept.shape[1:].numel() if kept.shape else 0,
            samples=kept.shape[0] if kept.shape else 0,
            unevenness=kept.unevenness,
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing at all was asked for."""
        return not any(self._layers.values())

    def _wants(self, quantity: str, layer: str) -> bool:
        return layer in self._layers.get(quantity, ())


_ROUNDING = 1e-6


def _names(value: str | Collection[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _matching(patterns: list[str], layers: Collection[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            matched = {layer for layer in layers if pattern == layer or re.fullmatch(pattern, layer)}
        except re.error as error:
            raise ConfigurationError(f"record: {pattern!r} is not a regular expression: {error}") from None
        if not matched and layers:
            raise ConfigurationError(f"record: {pattern!r} matches no neuron layer (there are {', '.join(layers)})")
        found |= matched
    return found
