"""From a spiking graph to NIR nodes: what both forms of the export share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from snnconvert.errors import ConversionError
from snnconvert.export.nir_nodes import Array, NirBuilder, Shape
from snnconvert.export.one_tensor import one_tensor
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer
from snnconvert.spiking_model import SpikingModel

aten = torch.ops.aten
_FLATTENS = frozenset({aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.squeeze.dims})


@dataclass(frozen=True)
class Wire:
    """One edge's share of a value: ``factor`` times what NIR's node sends."""

    node: str
    factor: float


@dataclass(frozen=True)
class Value:
    """A value of the spiking graph as NIR carries it.

    Attributes:
        wires: the edges that add up to it.
        shape: of one sample, [C, H, W] or [F].
        constant: float64 [C], what is added in one window beside the edges.
        bound: largest magnitude of the edges' sum, or of any part of it.
        is_signed: whether the edges' sum may be negative.
        is_input: whether it is the network's input, not yet integers.
        waits: whether it arrives as a whole, so that neurons wait for it and compute in float32.
    """

    wires: tuple[Wire, ...]
    shape: Shape
    constant: Array
    bound: float
    is_signed: bool = False
    is_input: bool = False
    waits: bool = False


@dataclass
class Translation:
    """What translating gives: the graph, where neurons are, and the output's unit per channel."""

    builder: NirBuilder
    neurons: dict[str, list[str]] = field(default_factory=dict)
    output_unit: Array = field(default_factory=lambda: np.ones(1))
    output_constant: Array = field(default_factory=lambda: np.zeros(1))


class Translator:
    """Translates node by node; a form says what neurons become.

    Raises:
        ConversionError: at the first layer that NIR can't say exactly, naming it.
    """

    def __init__(self, snn: SpikingModel, dtype: type[np.floating[Any]]) -> None:
        self.snn, self.dtype = snn, dtype
        self.result = Translation(NirBuilder(dtype))
        self.builder = self.result.builder
        self.shapes = dict(_shapes(snn))
        self.values: dict[str, Value] = {}

    def translate(self) -> Translation:
        """The whole graph."""
        for node in self.snn.network.graph.nodes:
            if node.op == "placeholder":
                self.values[node.name] = self._input(self.shapes[node.name])
            elif node.op == "output":
                self._output(self.values[node.all_input_nodes[0].name])
            elif node.op == "call_module":
                self.values[node.name] = self._module(node, self.snn.network.get_submodule(str(node.target)))
            elif node.name in self.shapes:
                self.values[node.name] = self._function(node)
        return self.result

    def neuron(self, layer: str, neuron: SpikingNeuron, value: Value) -> Value:
        """The neurons of one layer, and what their spikes stand for."""
        raise NotImplementedError

    def input_neuron(self, shape: Shape) -> Value:
        """The network's input: its 8-bit integers z, fed as graded current."""
        raise NotImplementedError

    def _input(self, shape: Shape) -> Value:
        nir = self.builder.nir
        self.builder.nodes["input"] = nir.Input({"input": np.array(shape)})
        return Value((Wire("input", 1.0),), shape, np.zeros(shape[0]), 0.0, is_input=True)

    def _output(self, value: Value) -> None:
        self.builder.nodes["output"] = self.builder.nir.Output({"output": np.array(value.shape)})
        names = [wire.node for wire in value.wires]
        if len(names) > 1:
            names = [self.builder.add("readout", self._diagonal(np.ones(value.shape[0]), value.shape), names)]
        self.builder.edges += [(name, "output") for name in names]
        self.result.output_constant = value.constant

    def _module(self, node: fx.Node, module: nn.Module) -> Value:
        source = node.all_input_nodes[0]
        value, layer = self.values[source.name], str(node.meta.get("layer", node.name))
        if isinstance(module, SpikingNeuron) and value.is_input:
            fed = self.input_neuron(value.shape)
            return replace(fed, wires=tuple(Wire(wire.node, fed.wires[0].factor) for wire in value.wires))
        if isinstance(module, SpikingNeuron):
            return self.neuron(layer, module, value)
        if isinstance(module, Synapse):
            return self._synapse(layer, module, value, self.shapes[node.name])
        if isinstance(module, SumPool):
            return self._pool(layer, module, value, self.shapes[node.name])
        if isinstance(module, IntegerScale):
            return self._scale(layer, module, value)
        if isinstance(module, ToReal) and all(user.op == "output" for user in node.users):
            self.result.output_unit = module.unit.flatten().double().numpy()
            return value
        raise ConversionError(f"{layer}: {_missing(module)}")

    def _function(self, node: fx.Node) -> Value:
        sources = [self.values[source.name] for source in node.all_input_nodes if source.name in self.values]
        shape = self.shapes[node.name]
        if node.target is aten.add.Tensor and len(sources) == 2:
            left, right = sources
            return Value(
                (*left.wires, *right.wires),
                shape,
                left.constant + right.constant,
                left.bound + right.bound,
                left.is_signed or right.is_signed,
                waits=left.waits or right.waits,
            )
        if node.target in _FLATTENS and len(sources) == 1 and len(shape) == 1:
            return self._flattened(sources[0], shape)
        layer = str(node.meta.get("layer", node.name))
        raise ConversionError(f"{layer}: NIR has no node for {getattr(node.target, '__name__', node.target)}")

    def _flattened(self, value: Value, shape: Shape) -> Value:
        if value.shape == shape:
            return value
        wires = tuple(
            Wire(self.builder.add(f"{wire.node}_flat", self.builder.flatten(value.shape), [wire.node]), wire.factor)
            for wire in value.wires
        )
        repeated = np.repeat(value.constant, int(np.prod(value.shape[1:])))
        return Value(wires, shape, repeated, value.bound, value.is_signed, value.is_input, value.waits)

    def _synapse(self, layer: str, synapse: Synapse, value: Value, shape: Shape) -> Value:
        multiplier = synapse.multiplier.double().numpy()
        bias = synapse.bias.double().numpy() * multiplier
        weight = _dense(synapse) * multiplier.reshape(-1, *[1] * (synapse.weight.dim() - 1))
        if value.constant.any():
            bias = bias + self._constant_current(layer, synapse, weight, value.constant)
        wires = tuple(self._weighted(layer, synapse, weight * wire.factor, wire, value) for wire in value.wires)
        flat = weight.reshape(len(weight), -1)
        upward, downward = flat.clip(min=0).sum(1).max(), -flat.clip(max=0).sum(1).min()
        reach = upward + downward if value.is_signed else max(upward, downward)
        return Value(wires, shape, bias, float(reach) * value.bound, is_signed=True, waits=value.waits)

    def _weighted(self, layer: str, synapse: Synapse, weight: Array, wire: Wire, value: Value) -> Wire:
        nothing = np.zeros(len(weight))
        g = synapse.geometry
        if g is None:
            node = self.builder.affine(weight, nothing)
        else:
            if g.transposed:
                raise ConversionError(f"{layer}: NIR has no transposed convolutions")
            if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
                raise ConversionError(f"{layer}: NIR's convolutions have two dimensions and square kernels")
            sizes = {"stride": g.stride, "padding": g.padding, "dilation": g.dilation}
            node = self.builder.convolution(weight, nothing, sizes, (value.shape[1], value.shape[2]))
        return Wire(self.builder.add(layer, node, [wire.node]), 1.0)

    @staticmethod
    def _constant_current(layer: str, synapse: Synapse, weight: Array, constant: Array) -> Array:
        if synapse.geometry is not None and any(synapse.geometry.padding):
            raise ConversionError(
                f"{layer}: it reads signed values behind a zero padding, whose zero point NIR can't say: use neurons "
                "with signed spikes, or leave this network to the other export"
            )
        total: Array = weight.reshape(len(weight), weight.shape[1], -1).sum(2) @ constant
        return total

    def _scale(self, layer: str, module: IntegerScale, value: Value) -> Value:
        factors = module.multiplier.flatten().numpy()
        if len(factors) == 1:
            wires = tuple(Wire(wire.node, wire.factor * float(factors[0])) for wire in value.wires)
            factor = float(factors[0])
            return Value(
                wires, value.shape, value.constant * factor, value.bound * factor, value.is_signed, waits=value.waits
            )
        wires = tuple(
            Wire(self.builder.add(f"{layer}_scale", self._diagonal(factors, value.shape), [wire.node]), wire.factor)
            for wire in value.wires
        )
        return Value(
            wires,
            value.shape,
            value.constant * factors,
            value.bound * float(factors.max()),
            value.is_signed,
            waits=value.waits,
        )

    def _diagonal(self, factors: Array, shape: Shape) -> Any:
        return self.builder.diagonal(factors, np.zeros(shape[0]), shape)

    def _pool(self, layer: str, module: SumPool, value: Value, shape: Shape) -> Value:
        g = module.geometry
        if len(value.shape) != 3 or (g.dims and g.dims != (2, 3)) or any(g.padding):
            raise ConversionError(f"{layer}: NIR's pools have two dimensions and here no padding")
        kernel, stride = (value.shape[1:], value.shape[1:]) if g.dims else (g.kernel, g.stride)
        count = int(np.prod(kernel))
        exact = count & (count - 1) == 0
        pooled = []
        for wire in value.wires:
            pool = self.builder.average_pool(kernel, stride) if exact else self.builder.sum_pool(kernel, stride)
            pooled.append(Wire(self.builder.add(layer, pool, [wire.node]), wire.factor * (count if exact else 1)))
        after = (value.shape[0], *_pooled(value.shape[1:], kernel, stride))
        middle = Value(
            tuple(pooled), after, value.constant * count, value.bound * count, value.is_signed, waits=value.waits
        )
        flat = middle if len(shape) == 3 else self._flattened(middle, shape)
        return self._scale(layer, IntegerScale(module.multiplier), flat)


def _missing(module: nn.Module) -> str:
    """What NIR lacks for a module."""
    if isinstance(module, Product):
        return "it multiplies two activations, and NIR's synapses have constant weights"
    if isinstance(module, (TableTransfer, LeakyTransfer)):
        return "its neurons fire on a function of their potential, and NIR's fire on the potential itself"
    return "analog nodes read it, and NIR has none"


def _dense(synapse: Synapse) -> Array:
    """Weights float64 [O, I, ...] with grouped convolutions spread out to one group."""
    weight: Array = synapse.weight.double().numpy()
    groups = 1 if synapse.geometry is None else synapse.geometry.groups
    if groups == 1:
        return weight
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    spread = np.zeros((weight.shape[0], inputs * groups, *weight.shape[2:]))
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        spread[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return spread


def _pooled(sizes: Shape, kernel: Shape, stride: Shape) -> Shape:
    return tuple((size - k) // s + 1 for size, k, s in zip(sizes, kernel, stride, strict=True))


def _shapes(snn: SpikingModel) -> Iterator[tuple[str, Shape]]:
    """Shape of one sample of every tensor of the graph, by node name."""
    found: dict[str, Shape] = {}

    class Shapes(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor) and value.dim() > 0 and n.op != "get_attr":
                found[n.name] = tuple(value.shape[1:])
            return value

    with torch.no_grad():
        Shapes(snn.network).run(torch.zeros(1, *one_tensor(snn, "NIR"), device=next(snn.buffers()).device))
    yield from found.items()
