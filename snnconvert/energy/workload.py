"""What a layer does for one image, in the numbers that models of energy ask for."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from snnconvert.errors import InputError

REAL_BITS = 32


@dataclass(frozen=True)
class LayerWork:
    """One layer of synapses at work on one image.

    Attributes:
        name: the layer's name.
        macs: its multiply-accumulates, counted once, not for every step.
        fan_in: N, synapses of one output.
        inputs: values it reads.
        outputs: values it gives, a membrane each.
        weights: how many it has; 0 for a product of two activations.
        weight_bits: b_w; of a product, the bits of the second factor's words; 32: floating-point numbers.
        spike_bits: b_s.
        T: time steps of a window.
        levels: how many values a window can stand for.
        firing_rate: share of spikes that are not zero, over neurons and steps.
        bit_density: share of ones among the T·b_s bits.
        word_density: share of windows with any spike, 1 − γ with γ the twin's activation sparsity.
        ann_density: share of the ANN's activations that are not zero; None: that of words.
        spiking: False where it reads real numbers instead of spikes.
        reads_input: whether it reads the network's input.

    Raises:
        InputError: if a share is outside 0..1, a count negative or the fan-in 0, naming the layer.
    """

    name: str
    macs: int
    fan_in: int
    inputs: int
    outputs: int
    weights: int
    weight_bits: float
    spike_bits: int
    T: int
    levels: int
    firing_rate: float
    bit_density: float
    word_density: float
    ann_density: float | None = None
    spiking: bool = True
    reads_input: bool = False

    def __post_init__(self) -> None:
        counts = ("macs", "inputs", "outputs", "weights", "weight_bits", "spike_bits", "T", "levels")
        for field in counts:
            if not 0 <= getattr(self, field) < math.inf:
                raise InputError(f"{self.name}: {field} must not be negative, got {getattr(self, field)!r}")
        if not 1 <= self.fan_in < math.inf:
            raise InputError(f"{self.name}: fan_in must be at least 1, got {self.fan_in!r}")
        for field in ("firing_rate", "bit_density", "word_density", "dense_share"):
            if not 0 <= getattr(self, field) <= 1:
                raise InputError(f"{self.name}: {field} must be a share from 0 to 1, got {getattr(self, field)!r}")

    @property
    def planes(self) -> int:
        """T·b_s: steps of the window when its spikes are sent bit by bit."""
        return self.T * self.spike_bits

    @property
    def word_bits(self) -> int:
        """⌈log2(levels)⌉: bits of one integer that says what the window says, and of the twin's activation."""
        return max(math.ceil(math.log2(self.levels)), 1) if self.levels > 1 else 1

    @property
    def dense_share(self) -> float:
        """Share of the ANN's activations that are not zero."""
        return self.word_density if self.ann_density is None else self.ann_density

    @property
    def fan_out(self) -> float:
        """Synapses behind one value it reads."""
        return self.macs / self.inputs if self.inputs else 0.0

    def busier(self, factor: float) -> LayerWork:
        """The same layer with all shares of spikes ``factor`` times as high, at most 1; the ANN's stays."""
        return dataclasses.replace(
            self,
            firing_rate=min(self.firing_rate * factor, 1.0),
            bit_density=min(self.bit_density * factor, 1.0),
            word_density=min(self.word_density * factor, 1.0),
            ann_density=self.dense_share,
        )


@dataclass(frozen=True)
class Workload:
    """A whole network at work on one image.

    Attributes:
        layers: its synapses, those that read real numbers included.
        ann_operations: element-wise operations of the ANN: activation functions, sums, pools, norms.
        real_operations: those of the spiking network that take real numbers, at full price.
        integer_operations: those of the spiking network that add currents.
    """

    layers: tuple[LayerWork, ...]
    ann_operations: int = 0
    real_operations: int = 0
    integer_operations: int = 0

    @property
    def spiking_layers(self) -> tuple[LayerWork, ...]:
        """The layers that read spikes."""
        return tuple(layer for layer in self.layers if layer.spiking)

    @property
    def firing_rate(self) -> float:
        """Mean firing rate, weighted by the multiply-accumulates of the spiking layers."""
        macs = sum(layer.macs for layer in self.spiking_layers)
        return sum(layer.macs * layer.firing_rate for layer in self.spiking_layers) / macs if macs else 0.0

    def busier(self, factor: float) -> Workload:
        """The same network with all shares of spikes ``factor`` times as high."""
        layers = tuple(layer.busier(factor) if layer.spiking else layer for layer in self.layers)
        return dataclasses.replace(self, layers=layers)
