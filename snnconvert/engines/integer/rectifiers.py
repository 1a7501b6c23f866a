"""Leaky rectifiers in front of neurons, u = g·v for v ≥ 0 and g⁻·v below: how runtimes calculate them in kernels.

Of the words clip(rne(g·v), 0, …) and clip(rne(g⁻·v), …, 0) one is 0, so that two integer kernels with the same weights
and a sum of bytes fire clip(rne(u)). Or u is a gain like that of any neurons with a rectifier of slope s = g⁻/g behind
it: s·(g·v) is g⁻·v where g·v is exact, and elsewhere may be off by its last bit, which few words show, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.neurons.current import IntegerScale, SumPool
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT, Synapse
from snnconvert.neurons.transfer import LeakyTransfer

Modules = Mapping[fx.Node, nn.Module]
_NEAR = (-1, 0, 1, 2)
_LARGEST_TRIED = FLOAT32_EXACT / 4


@dataclass(frozen=True)
class Rectifiers:
    """Leaky transfers that neurons alone read.

    Attributes:
        sides: those behind a synapse whose kernel fires each side, by the neurons.
        slopes: s of others that are a gain and a rectifier behind it, float32 as g, by the transfer.
    """

    sides: Mapping[fx.Node, fx.Node]
    slopes: Mapping[fx.Node, Tensor]


def rectifiers_of(graph: fx.Graph, modules: Modules, dialect: Dialect) -> Rectifiers:
    """Finds them.

    Args:
        graph: of a packed spiking network.
        modules: its modules by node.
        dialect: whether the runtime's kernels fire sides.
    """
    sides: dict[fx.Node, fx.Node] = {}
    slopes: dict[fx.Node, Tensor] = {}
    for node in graph.nodes:
        transfer, neuron = modules.get(node), _reader(node, modules)
        if not isinstance(transfer, LeakyTransfer) or neuron is None:
            continue
        if dialect.fires_sides and _has_sides(node, transfer, modules):
            sides[next(iter(node.users))] = node
        elif (slope := _slope(transfer, neuron)) is not None and _is_count(node.all_input_nodes[0], modules):
            slopes[node] = slope
    return Rectifiers(sides, slopes)


def _reader(node: fx.Node, modules: Modules) -> SpikingNeuron | None:
    """The packed neurons that alone read a node, and as it is."""
    neuron = modules.get(next(iter(node.users))) if len(node.users) == 1 else None
    if not isinstance(neuron, SpikingNeuron) or not isinstance(neuron.code, PackedCode) or neuron.bias is not None:
        return None
    return neuron if bool((neuron.gain == 1).all()) else None


def _has_sides(node: fx.Node, transfer: LeakyTransfer, modules: Modules) -> bool:
    """Whether a transfer alone reads a synapse, whose kernel can multiply its sums by either gain, rounded once."""
    source = node.all_input_nodes[0]
    synapse = modules.get(source)
    if not isinstance(synapse, Synapse) or len(source.users) != 1:
        return False
    if synapse.geometry is not None and synapse.geometry.transposed:
        return False
    gains = (transfer.gain, transfer.negative_gain)
    return all(_multiplies(synapse, gain) for gain in gains) and not bool((transfer.negative_gain < 0).any())


def _multiplies(synapse: Synapse, gain: Tensor) -> bool:
    """Whether m·g, not negative, is a float32 number for every channel."""
    if gain.numel() not in (1, len(synapse.bias)):
        return False
    scale = synapse.multiplier.double() * gain.double().flatten()
    return bool((scale == scale.float()).all() and (scale >= 0).all())


def _slope(transfer: LeakyTransfer, neuron: SpikingNeuron) -> Tensor | None:
    """The s for which a gain with a rectifier behind it gives the same words for all integers; None if there is none.

    Words change where u passes k + ½, at v = (k + ½)/g or (k + ½)/(g·s), and nowhere else: they are tried there.
    """
    gain = transfer.gain.cpu() * torch.ones_like(transfer.negative_gain, device="cpu")
    negative = transfer.negative_gain.cpu() * torch.ones_like(gain)
    if not bool((gain > 0).all()):
        return None
    slope: Tensor = negative / gain
    halves = torch.arange(-neuron.code.offset, neuron.ceiling, dtype=torch.float64) + 0.5
    above, below = (halves[:, None] / each.double().flatten() for each in (gain, gain.double() * slope.double()))
    changes = torch.cat([above.where(above > 0, 0.0), below.where(below < 0, 0.0)]).nan_to_num(0.0, 0.0, 0.0)
    if not bool((changes.abs() < _LARGEST_TRIED).all()):
        return None
    first, low, high = gain.flatten(), -neuron.code.offset, neuron.ceiling
    for near in _NEAR:
        potentials = (changes.floor() + near).float()
        values = LeakyTransfer(first, negative.flatten())(potentials)
        steps = potentials * first
        others = torch.where(steps < 0, steps * slope.flatten(), steps)
        if not torch.equal(values.round().clamp(low, high), others.round().clamp(low, high)):
            return None
    shared = slope.flatten()[0]
    return shared if bool((slope == shared).all()) else slope


def _is_count(node: fx.Node, modules: Modules) -> bool:
    """Whether a node is integers, moved or added up or not."""
    if isinstance(modules.get(node), Synapse | IntegerScale | SumPool | Product | SpikingNeuron):
        return True
    sources = [each for each in node.all_input_nodes if each in modules or kind_of(each) is not OpKind.SHAPE]
    return node.op == "call_function" and bool(sources) and all(_is_count(each, modules) for each in sources)
