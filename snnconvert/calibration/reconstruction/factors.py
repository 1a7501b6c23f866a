"""Which thresholds a block may learn, and how a learned factor becomes part of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from snnconvert.calibration.reconstruction.blocks import Block, source_of
from snnconvert.convert.insert import UNIT
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import MAX_WORD_BITS, PackedCode
from snnconvert.neurons.synapse import Synapse

_MANTISSA_BITS = 8
_CARRIERS = frozenset({OpKind.LAYOUT, OpKind.MAX_POOL})


@dataclass(frozen=True)
class LearnedThreshold:
    """Neurons whose threshold is learned: nothing but synapses of the same block reads them.

    Attributes:
        neuron: name of the neurons' module.
        source: their node in the ANN's graph.
        readers: names of the synapses' modules.
    """

    neuron: str
    source: str
    readers: tuple[str, ...]


def learned_thresholds(network: fx.GraphModule, block: Block, sources: Mapping[str, fx.Node]) -> list[LearnedThreshold]:
    """The thresholds a block may learn: of packed windows of less than 8 bits, below no cap."""
    found = []
    for node in block.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, SpikingNeuron) or module.is_capped or not isinstance(module.code, PackedCode):
            continue
        readers = _readers(network, node, set(block.nodes), sources)
        if readers and module.code.word_bits < MAX_WORD_BITS:
            found.append(LearnedThreshold(str(node.target), source_of(node), tuple(sorted(readers))))
    return found


def _readers(network: fx.GraphModule, node: fx.Node, inside: set[fx.Node], sources: Mapping[str, fx.Node]) -> set[str]:
    """Modules of the synapses that read a node's spikes; empty if anything else does."""
    readers: set[str] = set()
    pending = [node]
    while pending:
        for user in pending.pop().users:
            if user not in inside:
                return set()
            if user.op == "call_module" and isinstance(network.get_submodule(str(user.target)), Synapse):
                readers.add(str(user.target))
            elif (
                user.op == "call_function" and UNIT not in user.meta and kind_of(sources[source_of(user)]) in _CARRIERS
            ):
                pending.append(user)
            else:
                return set()
    return readers


def settle(neuron: SpikingNeuron, factor: float) -> float:
    """Multiplies neurons' threshold by a factor, on the grid of gains that keeps products exact.

    Returns:
        The factor that was taken: a single gain keeps 8 bits of mantissa.
    """
    with torch.no_grad():
        if neuron.gain.numel() == 1:
            gain = float(neuron.gain)
            factor = gain / _on_grid(gain / factor)
        neuron.gain.div_(factor)
        neuron.step.mul_(factor)
    return factor


def _on_grid(gain: float) -> float:
    grid = 2.0 ** (math.floor(math.log2(abs(gain))) + 1 - _MANTISSA_BITS)
    return round(gain / grid) * grid
