"""Building graphs of bytes: which words are bytes, where they come from, and what reads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from snnconvert.convert.moves import MOVES_OF_ONE
from snnconvert.engines.integer.module_calls import call_for
from snnconvert.engines.integer.proof import INT32_LARGEST, LARGEST_BYTE
from snnconvert.engines.integer.torch_kernels import PackedWeights, pack
from snnconvert.engines.integer.torch_proof import Scales
from snnconvert.engines.integer.torch_twins import (
    ByteSum,
    ByteSynapse,
    FireBytes,
    PoolBytes,
    ReadBytes,
    TableBytes,
    WriteBytes,
)
from snnconvert.engines.integer.traces import Trace
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.synapse import Synapse, accumulator_bound

aten = torch.ops.aten
_MOVES = MOVES_OF_ONE | {aten.expand.default}
_IMAGE = 4
_WINDOW = ("kernel", "stride", "padding", "dilation")
_POOL_DEFAULTS: tuple[Any, ...] = ((), 0, 1, False)  # all of them but the kernel, and ceil_mode
_MAKERS = (ByteSynapse, ByteSum, FireBytes, PoolBytes, TableBytes, ReadBytes, IntegerScale)
_READERS = (ByteSynapse, ByteSum, ReadBytes)


class ByteBuilder(ABC):
    """A graph in the making.

    Attributes:
        modules: the spiking graph's modules by node.
        graph: the new graph.
        root: its modules and constants by name.
        values: nodes of the new graph that hold what the packed network computes, by its nodes.
        bytes: nodes that hold bytes, with their zero point; None where there are none.
    """

    def __init__(self, network: fx.GraphModule, traces: Mapping[fx.Node, Trace]) -> None:
        """Starts with an empty graph.

        Args:
            network: the spiking graph.
            traces: shapes and types of its tensors.
        """
        self.old, self.traces = network, traces
        self.modules: dict[fx.Node, nn.Module] = {
            node: network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"
        }
        self.graph = fx.Graph()
        self.root: dict[str, object] = {}
        self.values: dict[fx.Node, fx.Node] = {}
        self.bytes: dict[fx.Node, tuple[fx.Node, int] | None] = {}

    @abstractmethod
    def value(self, node: fx.Node) -> fx.Node:
        """A node's floating-point value in the new graph."""

    def anything(self, node: fx.Node) -> fx.Node:
        """Bytes or values: what only its sizes are asked of."""
        stored = self.bytes.get(node)
        return self.value(node) if stored is None else stored[0]

    def runs_on_bytes(self, node: fx.Node) -> bool:
        """Whether an 8-bit kernel computes a synapse: linear, or a convolution over two dimensions."""
        synapse = self.modules.get(node)
        if not isinstance(synapse, Synapse):
            return False
        flat = synapse.geometry is None
        if not flat and (synapse.weight.dim() != _IMAGE or synapse.geometry.transposed):  # type: ignore[union-attr]
            return False
        low, high = synapse.word_range
        largest = accumulator_bound(synapse.weight, synapse.bias, -LARGEST_BYTE, LARGEST_BYTE).max()
        image = len(self.traces[node].shape) == _IMAGE
        return high - low <= LARGEST_BYTE and float(largest) <= INT32_LARGEST and (flat or image)

    def read(self, node: fx.Node, synapse: Synapse) -> tuple[fx.Node, int]:
        """Bytes of the words a synapse reads, and their zero point."""
        source = node.args[0]
        assert isinstance(source, fx.Node)
        stored = self.bytes_of(source)
        if stored is not None:
            return stored
        zero_point = -synapse.word_range[0]
        written = self.call(source, "_write", WriteBytes(zero_point), self.value(source))
        self.bytes[source] = written, zero_point
        return written, zero_point

    def bytes_of(self, node: fx.Node) -> tuple[fx.Node, int] | None:
        """A node's words as bytes: neurons fired them, and others only moved them or pooled the largest."""
        if node not in self.bytes:
            self.bytes[node] = self._moved_bytes(node) if self.moves(node) else None
        return self.bytes[node]

    def moves(self, node: fx.Node) -> bool:
        """Whether bytes can take a node's way as well: it moves values, or pools the largest."""
        if node.op != "call_function":
            return False
        return node.target in _MOVES or self.windows(node) is not None

    def _moved_bytes(self, node: fx.Node) -> tuple[fx.Node, int] | None:
        source = node.args[0]
        stored = self.bytes_of(source) if isinstance(source, fx.Node) else None
        if stored is None:
            return None
        windows = self.windows(node)
        if windows is not None:
            return self.call(node, "_bytes", windows, stored[0]), stored[1]
        moved = self.graph.node_copy(node, lambda arg: stored[0] if arg is source else self.value(arg))
        return moved, stored[1]

    def is_read_as_bytes(self, node: fx.Node) -> bool:
        """Whether a synapse with an 8-bit kernel reads a node's words, or they may join a sum in one."""
        return any(
            self.runs_on_bytes(user)
            or self._may_join_a_sum(user)
            or (self.moves(user) and user.args[0] is node and self.is_read_as_bytes(user))
            for user in node.users
        )

    def _may_join_a_sum(self, node: fx.Node) -> bool:
        scale = self.modules.get(node)
        is_shared = isinstance(scale, IntegerScale) and scale.multiplier.numel() == 1
        return is_shared and len(self.traces[node].shape) == _IMAGE

    def windows(self, node: fx.Node) -> PoolBytes | None:
        """A max-pool of images as one of bytes; None if it is something else."""
        if node.target is not aten.max_pool2d.default or node.kwargs or len(self.traces[node].shape) != _IMAGE:
            return None
        given: tuple[Any, ...] = (*node.args[1:], *_POOL_DEFAULTS[len(node.args) - 2 :])
        kernel, stride, padding, dilation, ceil_mode = given
        pairs = [pair for values in (kernel, stride or kernel, padding, dilation) if (pair := _pair(values))]
        return PoolBytes(tuple(pairs), ceil_mode=bool(ceil_mode)) if len(pairs) == len(_WINDOW) else None

    def packed(self, node: fx.Node, synapse: Synapse, scales: Scales, zero_point: int) -> PackedWeights:
        """A synapse's weights in the kernel's order."""
        source = node.args[0]
        assert isinstance(source, fx.Node)
        bias = scales.bias if bool(scales.bias.any()) else None
        return pack(synapse.weight, scales.scale, bias, zero_point, synapse.geometry, self.traces[source].shape)

    def call(self, node: fx.Node, suffix: str, module: nn.Module, *sources: fx.Node) -> fx.Node:
        """Adds a module that stands for a node, or a part of it, and calls it."""
        return call_for(node, suffix, module, sources, self.graph, self.root)


def reuse_memory(lowered: fx.GraphModule) -> None:
    """Lets sums and neurons overwrite what they read where a kernel made it and every other reader came before."""
    places = {node: index for index, node in enumerate(lowered.graph.nodes)}
    modules = {node: lowered.get_submodule(str(node.target)) for node in places if node.op == "call_module"}
    for node, module in modules.items():
        if not isinstance(module, (ByteSum, FireBytes)):
            continue
        source = node.args[-1]
        assert isinstance(source, fx.Node)
        others = [user for user in source.users if user is not node]
        is_free = (
            isinstance(modules.get(source), _MAKERS)
            and node.args.count(source) == 1
            and all(isinstance(modules.get(user), _READERS) and places[user] < places[node] for user in others)
        )
        if isinstance(module, ByteSum):
            module.copies = not is_free
        else:
            module.overwrites = is_free


def operands(node: fx.Node) -> list[fx.Node]:
    """A node's positional arguments, which may be the same node twice."""
    return [argument for argument in node.args if isinstance(argument, fx.Node)]


def _pair(values: object) -> tuple[int, int] | None:
    if isinstance(values, int):
        return values, values
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, int) for value in values):
        return None
    return (values[0], values[-1]) if len(values) in (1, 2) else None
