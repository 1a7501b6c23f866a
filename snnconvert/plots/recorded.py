"""What a picture needs of a simulation: recorded spikes, a fixed choice of neurons, names of codes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.engines.recording import LayerRecord
from snnconvert.engines.stepwise import Simulation
from snnconvert.errors import InputError
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import spelled


def recorded_layers(simulation: Simulation, layers: Collection[str] | None = None) -> dict[str, Tensor]:
    """Spikes [T, N, ...] by layer, in the order of the graph.

    Args:
        simulation: a simulation.
        layers: their names; None for all that were recorded.

    Raises:
        InputError: if a layer isn't there, or its spikes weren't recorded.
    """
    for layer in layers or ():
        spikes_of(simulation, layer)
    found = {
        layer: record.spikes
        for layer, record in simulation.layers.items()
        if record.spikes is not None and (layers is None or layer in layers)
    }
    if not found:
        raise InputError(f"no spikes were recorded: {_REMEDY}")
    return found


def record_of(simulation: Simulation, layer: str) -> LayerRecord:
    """The record of one layer.

    Raises:
        InputError: if the layer isn't there, naming those that are.
    """
    if layer not in simulation.layers:
        raise InputError(f"no neuron layer is called {layer!r} (there are {', '.join(simulation.layers)})")
    return simulation.layers[layer]


def spikes_of(simulation: Simulation, layer: str) -> Tensor:
    """The spikes [T, N, ...] of one layer.

    Raises:
        InputError: if the layer isn't there, or its spikes weren't recorded.
    """
    spikes = record_of(simulation, layer).spikes
    if spikes is None:
        raise InputError(f"{layer}: its spikes were not recorded: {_REMEDY}")
    return spikes


def train_of(spikes: Tensor, sample: int) -> NDArray[np.int16]:
    """The spikes [T, neurons] of one sample, flattened.

    Raises:
        InputError: if there is no such sample.
    """
    samples = spikes.shape[1]
    if not 0 <= sample < samples:
        raise InputError(f"sample {sample} is not among the {samples} that were simulated: give 0..{samples - 1}")
    train: NDArray[np.int16] = spikes[:, sample].flatten(1).to(torch.int16).numpy()
    return train


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` indices, the first and the last among them, the same every time.

    Raises:
        InputError: if none are wanted.
    """
    if most < 1:
        raise InputError(f"a picture shows at least one neuron, not {most}")
    places: NDArray[np.int64] = np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
    return places


def values_in(spikes: Tensor) -> NDArray[np.int16]:
    """The spikes that occur, ascending."""
    return np.unique(spikes.numpy()).astype(np.int16)


def code_text(code: SpikeCode, steps: int) -> str:
    """A code and the steps it was fired for, in words: packed, 2 bits × 4 steps."""
    bits, times = ("bit" if code.bits == 1 else "bits"), ("step" if steps == 1 else "steps")
    return f"{spelled(code)}, {code.bits} {bits} × {steps} {times}"


_REMEDY = 'call simulate(images, record="spikes") first'
