"""The two forms of the NIR export: rate-coded networks in time steps, packed networks unrolled into bits."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from snnconvert.engines.timeline import infer_timeline
from snnconvert.errors import ConversionError
from snnconvert.export.nir_nodes import Array, Shape
from snnconvert.export.nir_translate import Translator, Value, Wire
from snnconvert.neurons.integrate_and_fire import IntegrateAndFireCode
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.spiking_model import SpikingModel

_FLOAT32_EXACT = 1 << 24
_FINEST_FLOAT32_GAIN = 2.0**-16
_FLOAT64_EXACT = 1 << 53
RATE_SETTINGS = "--neuron if:reset=hard,v0=0 --bits 1"


class BeyondFloat32Error(Exception):
    """Sums pass what float32 holds exactly: translate in float64."""


class UnrolledTranslator(Translator):
    """Packed neurons of b·T bits as b·T binary neurons within one time step, most significant bit first.

    With u = (v + β)·g and the zero point o, bit k fires iff u − Σ_{fired j > k} 2^j ≥ 2^k − 1/2 − o; at
    equality it fires iff the value reached is even, that is iff k > 0 (with odd o: k = 0), so that the
    threshold lies one number beside the boundary and it doesn't matter how a tool compares. Every neuron
    sees one step, so its reset has no effect.
    """

    def input_neuron(self, shape: Shape) -> Value:
        """Integers z, each once."""
        return Value((Wire("input", 1.0),), shape, np.zeros(shape[0]), _largest_input(self.snn), is_signed=True)

    def neuron(self, layer: str, neuron: SpikingNeuron, value: Value) -> Value:
        """One membrane, and a chain of binary neurons that inhibit the smaller bits."""
        code = neuron.code
        if not isinstance(code, PackedCode):
            raise ConversionError(f"{layer}: {code.name} neurons can't be unrolled into bits")
        if neuron.is_capped:
            raise ConversionError(f"{layer}: its rectifier is capped below the code's largest value")
        if self.dtype == np.float32 and value.bound + float(np.abs(value.constant).max(initial=0)) > _FLOAT32_EXACT:
            raise BeyondFloat32Error
        membrane = self._membrane(layer, neuron, value)
        bits: list[str] = []
        for k in reversed(range(code.word_bits)):
            inhibition = [self._inhibition(layer, bits[-1 - i], k + 1 + i, value.shape) for i in range(len(bits))]
            spiking = self.builder.neurons(self._bit_threshold(k, code.offset), value.shape)
            bits.append(self.builder.add(f"{layer}_bit{k}", spiking, [membrane, *inhibition]))
        self.result.neurons[layer] = bits
        wires = tuple(Wire(name, float(1 << (code.word_bits - 1 - i))) for i, name in enumerate(bits))
        largest = float(code.levels - 1)
        return Value(wires, value.shape, np.full(value.shape[0], -float(code.offset)), largest)

    def _membrane(self, layer: str, neuron: SpikingNeuron, value: Value) -> str:
        """(v + β)·g: integers are added up first, so that each operation rounds once, as in the packed pass."""
        gain = _per_channel(neuron.gain, value.shape, layer)
        if (neuron.code.offset or self.dtype == np.float64) and (gain / _FINEST_FLOAT32_GAIN % 1).any():
            raise ConversionError(
                f"{layer}: its gain lies on no grid of powers of two, and its values are signed or its sums too large "
                "for float32: NIR's neurons could fire differently"
            )
        names = self._sums(layer, value)
        if neuron.bias is not None:
            bias = _per_channel(neuron.bias, value.shape, layer)
            shifted = self.builder.diagonal(np.ones(value.shape[0]), bias, value.shape)
            names = [self.builder.add(f"{layer}_bias", shifted, names)]
        nothing = np.zeros(value.shape[0])
        return self.builder.add(f"{layer}_gain", self.builder.diagonal(gain, nothing, value.shape), names)

    def _sums(self, layer: str, value: Value) -> list[str]:
        """Nodes whose sum is the integer potential, constant included: one for each factor among the wires."""
        constant, nodes = value.constant, []
        for factor in sorted({wire.factor for wire in value.wires}):
            diagonal = self.builder.diagonal(np.full(value.shape[0], factor), constant, value.shape)
            sources = [wire.node for wire in value.wires if wire.factor == factor]
            nodes.append(self.builder.add(f"{layer}_sum", diagonal, sources))
            constant = np.zeros(value.shape[0])
        return nodes

    def _bit_threshold(self, k: int, offset: int) -> float:
        """2^k − 1/2 − o, moved to the next number: below it where a tie fires, above it where it doesn't."""
        tie_fires = (k > 0) == (offset % 2 == 0)
        boundary = self.dtype((1 << k) - 0.5 - offset)
        return float(np.nextafter(boundary, self.dtype(-np.inf if tie_fires else np.inf)))

    def _inhibition(self, layer: str, bit: str, k: int, shape: Shape) -> str:
        weaken = self.builder.diagonal(np.full(shape[0], -float(1 << k)), np.zeros(shape[0]), shape)
        return self.builder.add(f"{layer}_less{k}", weaken, [bit])


class SteppedTranslator(Translator):
    """Binary integrate-and-fire neurons with hard reset, as they are: T steps, input current at each.

    The engine's neuron fires when Σ (T·x_t + c + β)·g + 1/2 + o reaches T and is reset to zero; divided by
    T that is NIR's neuron with threshold 1. Everything lies on a grid of powers of two, and the threshold
    half a grid step below 1, so that it doesn't matter whether a tool compares with > or ≥. In float64.
    """

    def __init__(self, snn: SpikingModel) -> None:
        super().__init__(snn, np.float64)
        self.T = _common_steps(snn)
        adapters = infer_timeline(snn.network, "streaming").adapters
        if adapters:
            raise ConversionError(f"{adapters[0].layer}: {adapters[0].action}, and NIR's neurons don't wait")

    def input_neuron(self, shape: Shape) -> Value:
        """Integers z at every step, T-th parts of one window."""
        nothing = np.zeros(shape[0])
        return Value(
            (Wire("input", 1.0 / self.T),), shape, nothing, _largest_input(self.snn), is_signed=True, waits=True
        )

    def neuron(self, layer: str, neuron: SpikingNeuron, value: Value) -> Value:
        """One membrane current, one layer of neurons."""
        code = neuron.code
        assert isinstance(code, IntegrateAndFireCode)
        gain = _per_channel(neuron.gain, value.shape, layer)
        beta = 0.0 if neuron.bias is None else _per_channel(neuron.bias, value.shape, layer)
        constant = ((value.constant + beta) * gain + code.constant_current()) / self.T
        factors = np.array([wire.factor for wire in value.wires])
        grid = finest_of(gain, gain[:, None] * factors, constant)
        reach = self.T * (value.bound * np.abs(gain).max() + np.abs(constant).max())
        # what waits is multiplied in float32; beyond T it fires at every step, rounded or not
        rounds = value.waits and (_FLOAT32_EXACT * finest_of(gain) < self.T or np.any(beta))
        if rounds or max(reach, 1.0) * 2 > _FLOAT64_EXACT * grid:
            raise ConversionError(
                f"{layer}: its potentials lie on no grid of powers of two that float64 holds (a normalization behind a "
                "sum, or a number of steps that is no power of two): NIR's neurons could fire differently"
            )
        nodes = []
        for factor in sorted({wire.factor for wire in value.wires}):
            diagonal = self.builder.diagonal(gain * factor, constant, value.shape)
            sources = [wire.node for wire in value.wires if wire.factor == factor]
            nodes.append(self.builder.add(f"{layer}_current", diagonal, sources))
            constant = np.zeros(value.shape[0])
        spiking = self.builder.neurons(1.0 - grid / 2, value.shape)
        name = self.builder.add(layer, spiking, nodes)
        self.result.neurons[layer] = [name]
        return Value((Wire(name, 1.0),), value.shape, np.full(value.shape[0], -float(code.offset)), float(self.T))


def _common_steps(snn: SpikingModel) -> int:
    steps = set()
    for index, (layer, neuron) in enumerate(snn.neurons()):
        code = neuron.code
        if index == 0 and isinstance(code, PackedCode):
            continue
        if not isinstance(code, IntegrateAndFireCode) or code.bits != 1 or code.reset != "hard" or code.v0 != 0:
            raise ConversionError(
                f"{layer}: NIR has no {code.name} neuron of this kind, only binary ones that are reset to zero and "
                f"start there: convert with {RATE_SETTINGS}, or with packed neurons throughout"
            )
        if neuron.is_capped:
            raise ConversionError(f"{layer}: its rectifier is capped below the code's largest value")
        steps.add(code.T)
    if len(steps) != 1:
        raise ConversionError(f"the layers have different numbers of time steps ({sorted(steps)}): NIR has one clock")
    return steps.pop()


def _largest_input(snn: SpikingModel) -> float:
    _, neuron = next(iter(snn.neurons()))
    return float(max(-neuron.code.minimum, neuron.code.maximum))


def _per_channel(values: Tensor, shape: Shape, layer: str) -> Array:
    flat = values.double().flatten().numpy()
    if len(flat) not in (1, shape[0]):
        raise ConversionError(
            f"{layer}: its neurons start at potentials of their own, and here NIR's have one a channel: "
            "convert without potential_correction"
        )
    return np.full(shape[0], flat[0]) if len(flat) == 1 else flat


def finest_of(*arrays: Array) -> float:
    """The largest power of two of which every number is a multiple, at most 1."""
    values = np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
    mantissa, exponent = np.frexp(values[values != 0])
    whole = (np.abs(mantissa) * 2.0**53).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return float(2.0 ** min(int((exponent - 53 + lowest).min(initial=0)), 0))
