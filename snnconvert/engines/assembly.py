"""Assembly: a cell for every node of a spiking graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from snnconvert.engines.cells import (
    Call,
    Cell,
    ConstantCell,
    DelayCell,
    Function,
    JoinCell,
    LinearCell,
    MaxPoolCell,
    RealCell,
    StaticCell,
    ToRealCell,
)
from snnconvert.engines.course import Carrier, Course, whole
from snnconvert.engines.neuron_cell import FrameCell, NeuronCell, Observer
from snnconvert.engines.product_cell import ProductCell
from snnconvert.engines.synapse_cell import SynapseCell, SynapseWatcher
from snnconvert.engines.timeline import MAX_POOLS, Timeline
from snnconvert.neurons.current import ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

aten = torch.ops.aten
_REAL_NUMBERS_ONLY = frozenset({aten.im2col.default})


def _on_reals(function: Call) -> Function:
    """A layout that knows no bytes, of spikes: there and back through float32."""

    def compute(values: Mapping[str, Any]) -> Any:
        kinds = {value.dtype for value in values.values()}
        moved = function({name: value.float() for name, value in values.items()})
        return moved.to(kinds.pop())

    return compute


def layer_names(network: fx.GraphModule) -> dict[str, str]:
    """Layer names of the neuron nodes, by node name; repeated ones are numbered."""
    names: dict[str, str] = {}
    for node in network.graph.nodes:
        if node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), SpikingNeuron):
            layer, count = str(node.meta.get("layer", node.name)), 1
            while (unique := layer if count == 1 else f"{layer}#{count}") in names.values():
                count += 1
            names[node.name] = unique
    return names


class Assembly:
    """Cells of all nodes that have a time, and the sources each one listens to.

    Attributes:
        cells: cell of each node, by name; the state of one run is in them.
        sources: names of the nodes each cell listens to.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        timeline: Timeline,
        observer: Observer | None,
        watcher: SynapseWatcher | None = None,
    ) -> None:
        self._network, self._timeline, self._observer, self._watcher = network, timeline, observer, watcher
        self._statics: dict[str, Any] = {}
        self._names = layer_names(network)
        self.cells: dict[str, Cell] = {}
        self.sources: dict[str, tuple[str, ...]] = {}
        for node in network.graph.nodes:
            if node.op == "get_attr":
                self._statics[node.name] = getattr(network, str(node.target))
            elif node.op in ("call_module", "call_function"):
                self._add(node)

    def static(self, name: str) -> Any:
        """The value of a constant or a size, None if the node has none or it isn't known yet."""
        return self._statics.get(name)

    def _add(self, node: fx.Node) -> None:
        courses = {
            source.name: course
            for source in node.all_input_nodes
            if (course := self._timeline.courses[source.name]).carrier is not Carrier.STATIC
        }
        if node.op == "call_module":
            cell = self._module_cell(node, self._network.get_submodule(str(node.target)), courses)
        else:
            cell = self._function_cell(node, courses)
        self.cells[node.name], self.sources[node.name] = cell, tuple(courses)

    def _module_cell(self, node: fx.Node, module: nn.Module, courses: Mapping[str, Course]) -> Cell:
        if not courses:
            return self._constant_cell(node, module)
        if isinstance(module, Product):
            return self._product_cell(node, module, courses)
        ((source, before),) = courses.items()
        after, layer = self._timeline.courses[node.name], self._names.get(node.name, "")
        if isinstance(module, SpikingNeuron) and before.carrier is Carrier.FRAMES:
            return FrameCell(layer, source, module, before, self._observer)
        if isinstance(module, SpikingNeuron):
            return NeuronCell(layer, source, module, before, after, self._observer)
        if isinstance(module, Synapse):
            return SynapseCell(node, source, module, before, self._watcher)
        if isinstance(module, (ToReal, LeakyTransfer, TableTransfer)):
            return ToRealCell(source, module, before, after)
        return LinearCell(lambda values: module(values[source]), courses, keeps_spikes=False)

    def _product_cell(self, node: fx.Node, module: Product, courses: Mapping[str, Course]) -> Cell:
        left, right = (source.name for source in node.args if isinstance(source, fx.Node))
        return ProductCell(node, (left, right), module, (courses[left], courses[right]), self._watcher)

    def _constant_cell(self, node: fx.Node, module: nn.Module) -> Cell:
        """A module that reads a constant: it receives it as a whole, once."""
        (source,) = (source.name for source in node.all_input_nodes)
        start = self._timeline.courses[source].start
        inner = self._module_cell(node, module, {source: whole(Carrier.REAL, start)})
        return ConstantCell(inner, source, self._statics)

    def _function_cell(self, node: fx.Node, courses: Mapping[str, Course]) -> Cell:
        after, function = self._timeline.courses[node.name], Call(node, self._statics)
        if after.carrier is Carrier.STATIC:
            return StaticCell(function, self._statics, node.name)
        if after.carrier in (Carrier.REAL, Carrier.FRAMES):
            return RealCell(function, tuple(courses), after)
        if node.target in MAX_POOLS:
            ((source, before),) = courses.items()
            return MaxPoolCell(function, source, before, after)
        return self._joining_cell(function, courses, after)

    @staticmethod
    def _joining_cell(function: Call, courses: Mapping[str, Course], after: Course) -> Cell:
        spikes = after.carrier is Carrier.SPIKES
        first = next(iter(courses.values()))
        joined = _on_reals(function) if spikes and function.target in _REAL_NUMBERS_ONLY else function
        if all(course.is_in_step_with(first) for course in courses.values()):
            return LinearCell(joined, courses, keeps_spikes=spikes)
        return DelayCell(joined, courses, after) if spikes else JoinCell(joined, courses)
