"""Words that concats join: which of them a runtime is given as bytes to join, and with what sign.

OpenVINO (2026.4) clips words wrongly that it joins as numbers if their zero points differ: on CPUs without AMX it runs
convolutions on unsigned bytes only, and takes those of signed ones. Bytes that are joined before they are read stay
what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from snnconvert.convert.arguments import as_int, as_node, with_defaults
from snnconvert.convert.ops import NEAREST, OpKind, kind_of
from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.early_firing import MOVES
from snnconvert.engines.integer.traces import Trace, traced
from snnconvert.engines.integer.twins import Bytes
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import Synapse

aten = torch.ops.aten
_SEVERAL = frozenset({aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int})
_MOVES = (MOVES | NEAREST | {aten.roll.default}) - _SEVERAL

Modules = Mapping[fx.Node, nn.Module]


@dataclass(frozen=True)
class Carried:
    """Words that a node passes on.

    Attributes:
        neurons: those that fire them, in the order in which they are joined.
        sizes: how many each brings along the dimension, with the batch's counted as 1.
        dim: the dimension they are joined along, not negative; 0 if they are one neuron's.
    """

    neurons: tuple[fx.Node, ...]
    sizes: tuple[int, ...]
    dim: int


@dataclass(frozen=True)
class JoinedWords:
    """Words of different zero points that meet in concats.

    Attributes:
        signed: whether the bytes of these neurons have a sign, alike where they meet.
        carriers: concats and moves of these words, which pass on bytes.
    """

    signed: Mapping[fx.Node, bool]
    carriers: Mapping[fx.Node, Carried]


NOTHING_JOINED = JoinedWords({}, {})


def joined_words(network: fx.GraphModule, signature: Signature) -> JoinedWords:
    """Finds words of different zero points that concats join, and words off the middle that rolls, two slices, do.

    Bytes are unsigned if convolutions read them and nothing else does, behind moves and concats or not.

    Args:
        network: a packed spiking graph, on the CPU.
        signature: how it is called; where there are concats or rolls, the network is run once on zeros.
    """
    nodes = list(network.graph.nodes)
    if not any(_joins(node) for node in nodes):
        return NOTHING_JOINED
    modules = {node: network.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"}
    carried = _carried(nodes, modules, traced(network, signature))
    groups = [group for group in _groups(carried) if _differ([modules[neuron] for neuron in group])]
    signed: dict[fx.Node, bool] = {}
    for group in groups:
        are_convolved = all(_is_convolved(neuron, modules, carried) for neuron in group)
        signed.update(dict.fromkeys(group, not are_convolved))
    carriers = {
        node: each for node, each in carried.items() if node not in modules and signed.keys() >= set(each.neurons)
    }
    return JoinedWords(signed, carriers)


def _joins(node: fx.Node) -> bool:
    return _is_concat(node) or node.target is aten.roll.default


def _is_concat(node: fx.Node) -> bool:
    return node.op == "call_function" and kind_of(node) is OpKind.CONCAT


def _carried(nodes: Iterable[fx.Node], modules: Modules, traces: Mapping[fx.Node, Trace]) -> dict[fx.Node, Carried]:
    """What every node carries that is words: its own, moved ones, or joined ones that no move has torn apart."""
    found: dict[fx.Node, Carried] = {}
    for node in nodes:
        if _is_packed(modules.get(node)):
            found[node] = Carried((node,), (), 0)
        elif _is_concat(node):
            joined = _joined(node, found, traces)
            if joined is not None:
                found[node] = joined
        elif (source := _moved(node)) in found:
            moved = found[source]
            if len(moved.neurons) == 1 or (moved.dim == 1 and _keeps_channels(node)):
                found[node] = moved
    return found


def _joined(node: fx.Node, found: Mapping[fx.Node, Carried], traces: Mapping[fx.Node, Trace]) -> Carried | None:
    (given,) = with_defaults(node, 0)
    tensors = _operands(node)
    if not all(part in found for part in tensors):
        return None
    dim = as_int(given) % len(traces[node].shape)
    neurons: list[fx.Node] = []
    sizes: list[int] = []
    for part in tensors:
        own = found[part]
        if len(own.neurons) > 1 and own.dim != dim:
            return None
        neurons.extend(own.neurons)
        sizes.extend(own.sizes if len(own.neurons) > 1 else (traces[part].shape[dim],))
    return Carried(tuple(neurons), tuple(sizes), dim) if dim > 0 else None


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


def _groups(carried: Mapping[fx.Node, Carried]) -> list[set[fx.Node]]:
    """Neurons whose words meet, by way of others or directly; of rolls, one."""
    groups: list[set[fx.Node]] = []
    for node, each in carried.items():
        if not _joins(node):
            continue
        group = set(each.neurons)
        apart = [other for other in groups if group.isdisjoint(other)]
        group.update(*(other for other in groups if not group.isdisjoint(other)))
        groups = [*apart, group]
    return groups


def _differ(neurons: Iterable[nn.Module]) -> bool:
    """Whether words, as they would be stored without each other, are of two types or have zero points."""
    stored = [
        Bytes(neuron.code.offset, neuron.ceiling, signed=neuron.code.offset > 0)
        for neuron in neurons
        if isinstance(neuron, SpikingNeuron)
    ]
    return len({each.dtype for each in stored}) > 1 or any(int(each.zero_point) for each in stored)


def _is_convolved(node: fx.Node, modules: Modules, carried: Mapping[fx.Node, Carried]) -> bool:
    """Whether convolutions read some words, moved and joined or not, and nothing else does."""
    for user in node.users:
        passes_on = user in carried and user not in modules
        if not (_is_convolved(user, modules, carried) if passes_on else _convolves(modules.get(user))):
            return False
    return True


def _convolves(module: nn.Module | None) -> bool:
    return isinstance(module, Synapse) and module.geometry is not None
