"""The plan: which layers become synapses, where neurons sit, and what stays analog and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.registry import make_code

Origin = Literal["activation", "inserted", "input", "repeater"]


@dataclass(frozen=True)
class Site:
    """An edge where neurons sit.

    Attributes:
        node: the graph node whose value they encode.
        layer: its layer name.
        origin: "activation": the neurons replace a rectifier or fire on another function; "inserted": an
            edge without one; "input": the network's input; "repeater": fires its spikes' own values again, without
            loss, behind a max-pool.
        family: sites of one family share one threshold and one code.
        bits: width setting of a spike.
        T: time steps.
        neuron: name and settings of the neurons, as the registry reads them.
        affine: a normalization in front of the rectifier that the neurons take over as gain and bias.
        cap: the rectifier's upper clip, if it has one.
        grid: of a value the network itself rounds to a grid, (step, zero point, smallest and largest integer).
    """

    node: str
    layer: str
    origin: Origin
    family: int
    bits: int
    T: int
    neuron: str = "packed"
    affine: str | None = None
    cap: float | None = None
    grid: tuple[float, int, int, int] | None = None

    @property
    def code(self) -> SpikeCode:
        """The unsigned code of the site; calibration adds an offset or a sign where values are negative."""
        return make_code(self.neuron, self.bits, self.T, self.layer)


@dataclass(frozen=True)
class SynapsePlan:
    """A convolution, a linear layer or a product of two activations that will read spikes.

    Attributes:
        node: its graph node.
        layer: its layer name.
        op: its operator.
        source: the graph node whose spikes it reads.
        family: family of the sites those spikes come from.
        bits: bits of one spike of its input.
        T: time steps of its input.
        neuron: name and settings of the neurons it reads.
        weight_bits: weight bits; of a product of two activations, the bits of a word of the second one.
        macs: multiply-accumulates per sample.
        reads_input: True if its spikes encode the network's input.
        held: of a product of two activations, the graph node whose words take the place of weights.
        held_family: its family.
    """

    node: str
    layer: str
    op: str
    source: str
    family: int
    bits: int
    T: int
    neuron: str
    weight_bits: int
    macs: int
    reads_input: bool
    held: str | None = None
    held_family: int | None = None

    @property
    def bit_budget(self) -> int:
        """BB = T·b_w·b_s (Shen et al., CVPR 2024)."""
        return self.T * self.weight_bits * self.bits


@dataclass(frozen=True)
class AnalogPlan:
    """A computing node that stays as it is in the ANN, with the reason."""

    node: str
    layer: str
    op: str
    reason: str
    macs: int


@dataclass(frozen=True)
class Plan:
    """What a conversion will do, before any calibration.

    Attributes:
        sites: where neurons sit.
        synapses: the layers that will read spikes.
        analog: what stays as it is in the ANN.
        notes: what could not be done as wished, and where.
    """

    sites: tuple[Site, ...]
    synapses: tuple[SynapsePlan, ...]
    analog: tuple[AnalogPlan, ...]
    notes: tuple[str, ...] = ()

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates per sample of the whole network."""
        return self.spiking_macs + sum(item.macs for item in self.analog)

    @property
    def spiking_macs(self) -> int:
        """Multiply-accumulates per sample whose activations are spikes."""
        return sum(item.macs for item in self.synapses)

    @property
    def coverage(self) -> float:
        """Share of multiply-accumulates that run on spikes."""
        return self.spiking_macs / self.total_macs if self.total_macs else 0.0

    @property
    def bit_budget(self) -> float:
        """Mean BB of the spiking layers, weighted by multiply-accumulates."""
        return sum(item.macs * item.bit_budget for item in self.synapses) / max(self.spiking_macs, 1)
