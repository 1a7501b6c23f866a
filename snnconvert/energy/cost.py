"""What a piece of work costs, by where it goes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum


class Network(Enum):
    """The five forms in which every model of energy runs a network.

    The twin has the spiking network's weights and as many levels, as integers. The spiking network sends its spikes
    bit by bit over T·b_s binary steps (serial), or each window as one integer, and nothing where that is zero (packed).
    """

    ANN_FLOAT32 = "ann_float32"
    ANN_INT8 = "ann_int8"
    TWIN_QNN = "twin_qnn"
    SNN_SERIAL = "snn_serial"
    SNN_PACKED = "snn_packed"

    @property
    def is_spiking(self) -> bool:
        """Whether it computes with spikes."""
        return self in (Network.SNN_SERIAL, Network.SNN_PACKED)


@dataclass(frozen=True)
class Cost:
    """A sum of costs, in the unit of the model that gives it.

    Attributes:
        compute: of arithmetic.
        weights: of reading weights.
        activations: of reading and writing activations or spikes in memory.
        state: of membranes and partial sums.
        movement: of sending activations or spikes between cores.
    """

    compute: float = 0.0
    weights: float = 0.0
    activations: float = 0.0
    state: float = 0.0
    movement: float = 0.0

    @property
    def total(self) -> float:
        """The sum of all."""
        return self.compute + self.weights + self.activations + self.state + self.movement

    def __add__(self, other: Cost) -> Cost:
        pairs = ((getattr(self, item.name), getattr(other, item.name)) for item in dataclasses.fields(self))
        return Cost(*(first + second for first, second in pairs))

    def __mul__(self, factor: float) -> Cost:
        return Cost(*(getattr(self, item.name) * factor for item in dataclasses.fields(self)))
