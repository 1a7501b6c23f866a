"""Nodes and constants become a network of layers, with shared constants shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.models.onnx.folding import host_form
from snnconvert.models.onnx.layers import OnnxLayer, OnnxNetwork, Step
from snnconvert.models.onnx.naming import layer_names
from snnconvert.models.onnx.node import OnnxNode
from snnconvert.models.onnx.table import OpEntry, find_op
from snnconvert.models.onnx.values import HostArray


@dataclass
class Assembler:
    """Builds layers; a constant that several of them read in the same form is one tensor.

    Attributes:
        constants: Tensors by network-wide name.
    """

    constants: Mapping[str, Tensor]
    _prepared: dict[tuple[str, str, int, str], Tensor] = field(default_factory=dict)
    _parameters: dict[int, nn.Parameter] = field(default_factory=dict)

    def network(self, nodes: Sequence[OnnxNode], inputs: Sequence[str], outputs: Mapping[str, str]) -> OnnxNetwork:
        """The network that runs the nodes in order and gives the outputs, {name: value}."""
        live = _live(nodes, set(outputs.values()))
        network = OnnxNetwork(inputs, dict(outputs))
        last_read = {name: index for index, node in enumerate(live) for name in node.inputs if name}
        kept = set(outputs.values())
        steps = []
        for index, (node, path) in enumerate(zip(live, layer_names(live), strict=True)):
            runtime = tuple(None if name is None or name in self.constants else name for name in node.inputs)
            dead = {name for name in runtime if name and last_read[name] == index and name not in kept}
            placed = network.place(path, self._layer(node))
            steps.append(Step(placed, runtime, node.outputs, tuple(sorted(dead))))
        network.steps = tuple(steps)
        for index, (name, source) in enumerate(outputs.items()):
            if source in self.constants:
                network.register_buffer(f"constant_output_{index}", self.constants[source])
                network.constant_outputs[name] = f"constant_output_{index}"
        return network

    def _layer(self, node: OnnxNode) -> OnnxLayer:
        entry = find_op(node.domain, node.op_type, node.opset)
        assert entry is not None
        if len(node.inputs) and all(name is None for name in node.inputs):
            raise InputError(f"{node.describe()} has no inputs")
        names: dict[int, str] = {}
        tensors: dict[str, Tensor] = {}
        hosts: list[HostArray | None] = []
        for position, name in enumerate(node.inputs):
            constant = None if name is None else self.constants.get(name)
            hosts.append(None if constant is None else host_form(constant))
            if constant is None or not _is_read_as_tensor(entry, position, constant):
                continue
            assert name is not None
            names[position] = entry.weights.get(position, f"constant_{position}")
            tensors[names[position]] = self._in_form(node, entry, position, name)
        prepared = frozenset(names) if entry.prepare is not None else frozenset()
        layer = OnnxLayer(node, names, tuple(hosts), prepared)
        for name, tensor in tensors.items():
            self._register(layer, name, tensor)
        return layer

    def _in_form(self, node: OnnxNode, entry: OpEntry, position: int, name: str) -> Tensor:
        tensor = self.constants[name]
        if entry.prepare is None:
            return tensor
        key = (name, node.op_type, position, repr(sorted(_plain_attributes(node).items())))
        if key not in self._prepared:
            self._prepared[key] = entry.prepare(node, position, tensor)
        return self._prepared[key]

    def _register(self, layer: OnnxLayer, name: str, tensor: Tensor) -> None:
        if tensor.is_floating_point() and name in ("weight", "bias"):
            if id(tensor) not in self._parameters:
                self._parameters[id(tensor)] = nn.Parameter(tensor, requires_grad=False)
            layer.register_parameter(name, self._parameters[id(tensor)])
        else:
            layer.register_buffer(name, tensor)


def _plain_attributes(node: OnnxNode) -> dict[str, object]:
    return {key: value for key, value in node.attributes.items() if isinstance(value, (int, float, str, list))}


def _is_read_as_tensor(entry: OpEntry, position: int, constant: Tensor) -> bool:
    if position in entry.numbers and host_form(constant) is not None:
        return False
    return not (entry.scalars and constant.numel() == 1 and constant.dim() <= 1)


def _live(nodes: Sequence[OnnxNode], wanted: set[str]) -> list[OnnxNode]:
    """The nodes that an output depends on."""
    needed, live = set(wanted), []
    for node in reversed(nodes):
        if any(name in needed for name in node.outputs if name):
            live.append(node)
            needed |= {name for name in node.inputs if name}
    return live[::-1]
