"""Neurons that fire apart: on each current that a concat joins, and on synapses of their own where several read one.

fire(cat(u_1, u_2)) = cat(fire(u_1), fire(u_2)), and a synapse that two layers of neurons read, or each some channels
of, is two synapses. Runtimes whose kernels return nothing but bytes have a kernel for each of them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.arguments import as_int, as_node, with_defaults
from snnconvert.convert.names import LAYER, layer_name
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.traces import traced
from snnconvert.neurons.current import IntegerScale, SumPool
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse

WORDS_OF, PART = "words_of", "part_of"
_MOST_COPIES = 2
_CHANNELS = 1

Modules = Mapping[fx.Node, nn.Module]


@dataclass(frozen=True)
class _Channels:
    """Some channels of a synapse, and the node that takes them: a slice, or neurons that read all."""

    reader: fx.Node
    start: int
    stop: int


def fired_apart(network: fx.GraphModule, signature: Signature) -> fx.GraphModule:
    """The same network, word for word, with neurons and synapses apart where kernels then fire bytes.

    Concats that stand for a layer of neurons have its name under ``WORDS_OF`` in their meta data, and the neurons of
    their parts have it under ``PART``.

    Args:
        network: a packed spiking graph, on the CPU; it is left as it is.
        signature: how it is called; where there are such neurons, it is run once on zeros.
    """
    modules = _modules_of(network)
    joined = {as_node(node.args[0]): node for node in modules if _reads_concat(node, modules)}
    if not joined and not any(_is_shared(node, modules) for node in modules):
        return network
    channels = _channels_of(network, signature)
    names = {joined[concat].name for concat in _fired_in_parts(joined, modules, channels)}
    apart = fx.GraphModule(network, copy.deepcopy(network.graph))
    sizes = {node.name: size for node, size in channels.items()}
    for node in list(apart.graph.nodes):
        if node.name in names:
            _fire_in_parts(apart, node, sizes)
    _split_synapses(apart, sizes)
    apart.graph.lint()
    apart.recompile()
    return apart


def _modules_of(network: fx.GraphModule) -> dict[fx.Node, nn.Module]:
    return {node: network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"}


def _is_shared(node: fx.Node, modules: Modules) -> bool:
    return _convolves(node, modules) and len(node.users) > 1


def _convolves(node: fx.Node, modules: Modules) -> bool:
    synapse = modules.get(node)
    return isinstance(synapse, Synapse) and synapse.geometry is not None


def _reads_concat(node: fx.Node, modules: Modules) -> bool:
    """Whether packed neurons, whose words no product reads, alone read a concat of channels."""
    neuron, source = modules[node], node.args[0]
    if not isinstance(neuron, SpikingNeuron) or not isinstance(neuron.code, PackedCode):
        return False
    if not isinstance(source, fx.Node) or source.op != "call_function" or kind_of(source) is not OpKind.CONCAT:
        return False
    is_alone = len(source.users) == 1 and not any(isinstance(modules.get(user), Product) for user in node.users)
    return is_alone and as_int(with_defaults(source, 0)[0]) == _CHANNELS


def _channels_of(network: fx.GraphModule, signature: Signature) -> dict[fx.Node, int]:
    traces = traced(network, signature)
    return {node: trace.shape[_CHANNELS] for node, trace in traces.items() if len(trace.shape) > _CHANNELS}


def _fired_in_parts(
    joined: Mapping[fx.Node, fx.Node], modules: Modules, channels: Mapping[fx.Node, int]
) -> Collection[fx.Node]:
    """The concats whose parts are fired by kernels, or cost no more than the concat; those that no other one spoils."""
    found: set[fx.Node] = set(joined)
    while True:
        left = {each for each in found if _fires_in_parts(each, modules[joined[each]], modules, channels, found)}
        if left == found:
            return found
        found = left


def _fires_in_parts(
    concat: fx.Node, neuron: nn.Module, modules: Modules, channels: Mapping[fx.Node, int], found: Collection[fx.Node]
) -> bool:
    parts = _parts(concat)
    numbers = [number for number in (neuron.gain, neuron.bias, neuron.step) if isinstance(number, Tensor)]
    if not all(number.numel() == 1 or _has_channels(number, channels[concat]) for number in numbers):
        return False
    synapses = [_synapse_of(part, modules) for part in parts]
    others = [part for part, synapse in zip(parts, synapses, strict=True) if synapse is None]
    if not any(synapses) or len(set(parts)) < len(parts):
        return False
    fired = all(_readers(each, modules, channels, found) is not None for each in synapses if each is not None)
    return fired and all(len(part.users) == 1 and _is_current(part, modules) for part in others)


def _is_current(node: fx.Node, modules: Modules) -> bool:
    is_sum = node.op == "call_function" and kind_of(node) is OpKind.ADD
    return is_sum or isinstance(modules.get(node), IntegerScale | SumPool)


def _has_channels(number: Tensor, channels: int) -> bool:
    return number.dim() > _CHANNELS and number.shape[_CHANNELS] == channels


def _parts(concat: fx.Node) -> list[fx.Node]:
    listed = concat.args[0]
    assert isinstance(listed, Sequence)
    return [as_node(each) for each in listed]


def _synapse_of(node: fx.Node, modules: Modules) -> fx.Node | None:
    """The convolution that a node is, or a slice of the channels of."""
    source = as_node(node.args[0]) if node.target is torch.ops.aten.slice.Tensor else node
    return source if _convolves(source, modules) else None


def _readers(
    node: fx.Node, modules: Modules, channels: Mapping[fx.Node, int], concats: Collection[fx.Node] = ()
) -> list[_Channels] | None:
    """What neurons read of a synapse, or will behind concats; None if anything else does, or much is read twice."""
    found: list[_Channels] = []
    for user in node.users:
        is_slice = user.target is torch.ops.aten.slice.Tensor
        span = _span(user, channels[node]) if is_slice else (0, channels[node])
        readers = list(user.users) if is_slice else [user]
        fires = len(readers) == 1 and (readers[0] in concats or isinstance(modules.get(readers[0]), SpikingNeuron))
        if span is None or not fires:
            return None
        found.append(_Channels(user, *span))
    synapse = modules[node]
    assert isinstance(synapse, Synapse)
    assert synapse.geometry is not None
    is_whole = all(each.stop - each.start == channels[node] for each in found)
    copied = sum(each.stop - each.start for each in found)
    return found if copied <= _MOST_COPIES * channels[node] and (is_whole or synapse.geometry.groups == 1) else None


def _span(node: fx.Node, channels: int) -> tuple[int, int] | None:
    """The channels that a slice takes, if it takes channels next to each other."""
    dim, start, stop, step = with_defaults(node, 0, None, None, 1)
    known = all(each is None or isinstance(each, int) for each in (dim, start, stop, step))
    if not known or dim != _CHANNELS or step != 1:
        return None
    first, last, _ = slice(start, stop).indices(channels)
    return (first, last) if first < last else None


def _fire_in_parts(network: fx.GraphModule, node: fx.Node, sizes: Mapping[str, int]) -> None:
    """Puts a concat of words in the place of neurons that read a concat of currents."""
    graph, concat, neuron = network.graph, as_node(node.args[0]), network.get_submodule(str(node.target))
    fired: list[fx.Node] = []
    start = 0
    with graph.inserting_before(node):
        for place, part in enumerate(_parts(concat)):
            size = sizes[part.name]
            own = _add(network, f"{node.target}_part_{place}", _narrowed_neurons(neuron, start, size))
            fired.append(graph.call_module(own, (part,)))
            fired[-1].meta = {**node.meta, PART: node.name}
            start += size
        words = graph.call_function(torch.ops.aten.cat.default, (fired, _CHANNELS))
    words.meta = {**node.meta, WORDS_OF: node.name}
    node.replace_all_uses_with(words)
    graph.erase_node(node)
    graph.erase_node(concat)


def _split_synapses(network: fx.GraphModule, sizes: Mapping[str, int]) -> None:
    """Gives neurons that share a synapse one each."""
    graph, modules = network.graph, _modules_of(network)
    channels = {node: sizes[node.name] for node in modules if node.name in sizes}
    for node in modules:
        found = _readers(node, modules, channels) if _is_shared(node, modules) else None
        if found is None:
            continue
        for place, each in enumerate(found):
            synapse = modules[node]
            if each.stop - each.start < sizes[node.name]:
                synapse = _narrowed_synapse(synapse, each.start, each.stop - each.start)
            with graph.inserting_before(each.reader):
                own = graph.call_module(_add(network, f"{node.target}_apart_{place}", synapse), node.args)
            own.meta = dict(node.meta)
            if place:
                own.meta[LAYER] = f"{layer_name(node)}.apart{place}"
            if each.reader in modules:
                each.reader.replace_input_with(node, own)
            else:
                each.reader.replace_all_uses_with(own)
                graph.erase_node(each.reader)
        graph.erase_node(node)


def _narrowed_synapse(synapse: nn.Module, start: int, size: int) -> nn.Module:
    narrowed = copy.deepcopy(synapse)
    assert isinstance(narrowed, Synapse)
    for name in ("weight", "bias", "multiplier", "unit", "channel_bits"):
        number = getattr(narrowed, name)
        if number is not None:
            setattr(narrowed, name, number.narrow(0, start, size).clone())
    narrowed.prepare()
    return narrowed


def _narrowed_neurons(neuron: nn.Module, start: int, size: int) -> nn.Module:
    narrowed = copy.deepcopy(neuron)
    for name in ("gain", "bias", "step"):
        number = getattr(narrowed, name)
        if number is not None and number.numel() > 1:
            setattr(narrowed, name, number.narrow(_CHANNELS, start, size).clone())
    return narrowed


def _add(network: fx.GraphModule, name: str, module: nn.Module) -> str:
    network.add_submodule(name, module)
    return name
