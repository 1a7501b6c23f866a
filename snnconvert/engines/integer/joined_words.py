"""Words that are moved and joined: which of them a runtime is given as bytes until something reads them.

OpenVINO (2026.4) carries zero points through moves and concats of words that are read as numbers before, and clips the
words wrongly where they don't fit: on CPUs without AMX its convolutions read unsigned bytes only, and it takes those of
signed ones. Bytes that are moved and joined before they are read stay what they are.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from snnconvert.convert.arguments import as_int, as_node, with_defaults
from snnconvert.convert.moves import MOVES_OF_ONE
from snnconvert.convert.ops import NEAREST, OpKind, kind_of
from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.traces import Trace, traced
from snnconvert.engines.integer.twins import Bytes
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse

aten = torch.ops.aten
_MOVES = MOVES_OF_ONE | NEAREST | {aten.roll.default, operator.getitem}

Modules = Mapping[fx.Node, nn.Module]


@dataclass(frozen=True)
class Carried:
    """Words that a node passes on.

    Attributes:
        neurons: those that fire them.
        parts: of each run of words with one zero point along the dimension a neuron that fires such words.
        sizes: how many words each part has; empty of one part.
        dim: the dimension, not negative; 0 of one part.
    """

    neurons: tuple[fx.Node, ...]
    parts: tuple[fx.Node, ...]
    sizes: tuple[int, ...] = ()
    dim: int = 0


@dataclass(frozen=True)
class JoinedWords:
    """Words with zero points, or of two types, that are moved or joined.

    Attributes:
        signed: whether the bytes of these neurons have a sign, alike where they meet.
        carriers: moves and concats of these words, which pass on bytes.
        apart: concats and rolls that join words which can't be joined as bytes, with each other or with anything else:
            nothing may be known of them as words there.
    """

    signed: Mapping[fx.Node, bool]
    carriers: Mapping[fx.Node, Carried]
    apart: frozenset[fx.Node]


NOTHING_JOINED = JoinedWords({}, {}, frozenset())


def joined_words(network: fx.GraphModule, signature: Signature, early: Collection[fx.Node] = ()) -> JoinedWords:
    """Finds words that aren't bytes as they are, and what moves and joins them.

    Bytes are unsigned if convolutions read them and nothing else does, behind moves and concats or not.

    Args:
        network: a packed spiking graph, on the CPU.
        signature: how it is called; where there are concats, the network is run once on zeros.
        early: neurons that fire before a move, whose bytes are moved anyway; those that nothing joins are left alone.
    """
    nodes = list(network.graph.nodes)
    modules = {node: network.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"}
    traces = traced(network, signature) if any(map(_joins, nodes)) else {}
    carried = _carried(nodes, modules, traces)
    met = [
        set(each.neurons)
        for node, each in carried.items()
        if _joins(node) or (node not in modules and not any(neuron in early for neuron in each.neurons))
    ]
    convolved = _convolved(nodes, modules, carried)
    signed: dict[fx.Node, bool] = {}
    for group in _merged(met):
        if not _are_plain([modules[neuron] for neuron in group]):
            signed.update(dict.fromkeys(group, not convolved.issuperset(group)))
    carriers = {
        node: each for node, each in carried.items() if node not in modules and signed.keys() >= set(each.neurons)
    }
    return JoinedWords(signed, carriers, frozenset(node for node in nodes if _joins(node) and node not in carried))


def plainly_joined_words(network: fx.GraphModule, signature: Signature) -> JoinedWords:
    """Finds all words that are joined, and what moves them afterwards, as unsigned bytes.

    Words that are the right operand of a product stay apart: they have a sign there.

    Args:
        network: a packed spiking graph, on the CPU.
        signature: how it is called; where there are concats, the network is run once on zeros.
    """
    nodes = list(network.graph.nodes)
    modules = {node: network.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"}
    if not any(map(_joins, nodes)):
        return NOTHING_JOINED
    carried = _carried(nodes, modules, traced(network, signature))
    carriers: dict[fx.Node, Carried] = {}
    for node in reversed(nodes):
        each = carried.get(node)
        if each is None or node in modules or _are_held(each.neurons, modules):
            continue
        if len(each.neurons) > 1 or _is_concat(node) or any(user in carriers for user in node.users):
            carriers[node] = each
    signed = {neuron: False for each in carriers.values() for neuron in each.neurons}
    return JoinedWords(signed, carriers, frozenset())


def _are_held(neurons: Iterable[fx.Node], modules: Modules) -> bool:
    """Whether products read some of the words."""
    return any(isinstance(modules.get(user), Product) for neuron in neurons for user in neuron.users)


def _joins(node: fx.Node) -> bool:
    """Whether a node is a concat, or what runtimes make one of."""
    return _is_concat(node) or node.target is aten.roll.default


def _is_concat(node: fx.Node) -> bool:
    return node.op == "call_function" and kind_of(node) is OpKind.CONCAT


def _carried(nodes: Iterable[fx.Node], modules: Modules, traces: Mapping[fx.Node, Trace]) -> dict[fx.Node, Carried]:
    """What every node carries that is words: its own, moved ones, or joined ones that no move has torn apart."""
    found: dict[fx.Node, Carried] = {}
    for node in nodes:
        if _is_packed(modules.get(node)):
            found[node] = Carried((node,), (node,))
        elif _is_concat(node):
            joined = _joined(node, found, traces, modules)
            if joined is not None:
                found[node] = joined
        elif (source := _moved(node)) in found:
            moved = found[source]
            if len(moved.parts) == 1 or (moved.dim == 1 and _keeps_channels(node)):
                found[node] = moved
    return found


def _joined(
    node: fx.Node, found: Mapping[fx.Node, Carried], traces: Mapping[fx.Node, Trace], modules: Modules
) -> Carried | None:
    (given,) = with_defaults(node, 0)
    tensors = _operands(node)
    if not all(tensor in found for tensor in tensors):
        return None
    dim = as_int(given) % len(traces[node].shape)
    neurons = tuple(dict.fromkeys(neuron for tensor in tensors for neuron in found[tensor].neurons))
    parts: list[fx.Node] = []
    sizes: list[int] = []
    for tensor in tensors:
        own = found[tensor]
        if len(own.parts) > 1 and own.dim != dim:
            return None
        parts.extend(own.parts)
        sizes.extend(own.sizes or (traces[tensor].shape[dim],))
    if len({_offset(modules[part]) for part in parts}) == 1:
        return Carried(neurons, (parts[0],))
    return Carried(neurons, tuple(parts), tuple(sizes), dim) if dim > 0 else None


def _offset(neuron: nn.Module) -> int:
    assert isinstance(neuron, SpikingNeuron)
    return neuron.code.offset


def _operands(node: fx.Node) -> list[fx.Node]:
    """What a concat joins, one after the other."""
    listed = node.args[0]
    assert isinstance(listed, Sequence)
    return [as_node(each) for each in listed]


def _is_packed(module: nn.Module | None) -> bool:
    return isinstance(module, SpikingNeuron) and isinstance(module.code, PackedCode)


def _moved(node: fx.Node) -> fx.Node | None:
    """What a node moves the values of, or picks the largest of."""
    is_move = node.op == "call_function" and (node.target in _MOVES or kind_of(node) is OpKind.MAX_POOL)
    source = node.args[0] if is_move else None
    return source if isinstance(source, fx.Node) else None


def _keeps_channels(node: fx.Node) -> bool:
    return node.target in NEAREST or kind_of(node) is OpKind.MAX_POOL


def _merged(sets: Iterable[set[fx.Node]]) -> list[set[fx.Node]]:
    """Sets of neurons, those that have any in common as one."""
    merged: list[set[fx.Node]] = []
    for each in sets:
        apart = [other for other in merged if each.isdisjoint(other)]
        merged = [*apart, each.union(*(other for other in merged if not each.isdisjoint(other)))]
    return merged


def _are_plain(neurons: Iterable[nn.Module]) -> bool:
    """Whether words, as they would be stored without each other, are of one type and the numbers that bytes are."""
    stored = [
        Bytes(neuron.code.offset, neuron.ceiling, signed=neuron.code.offset > 0)
        for neuron in neurons
        if isinstance(neuron, SpikingNeuron)
    ]
    return len({each.dtype for each in stored}) == 1 and not any(int(each.zero_point) for each in stored)


def _convolved(nodes: Sequence[fx.Node], modules: Modules, carried: Mapping[fx.Node, Carried]) -> set[fx.Node]:
    """Words that convolutions read, moved and joined or not, and nothing else does."""
    found: set[fx.Node] = set()
    for node in reversed(nodes):
        if node in carried and all(
            user in found if user in carried and user not in modules else _convolves(modules.get(user))
            for user in node.users
        ):
            found.add(node)
    return found


def _convolves(module: nn.Module | None) -> bool:
    return isinstance(module, Synapse) and module.geometry is not None
