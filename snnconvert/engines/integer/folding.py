"""Folding: gains of neurons that can as well be scales of the currents they read.

A neuron's u = g·Σ m_i·c_i of integer currents c_i is Σ (g·m_i)·c_i; a runtime applies the scale g·m_i to an
integer accumulator in one rounded product, as long as nobody else reads the unscaled currents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.engines.integer.byte_sums import Operand, exact_order
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.early_firing import EarlyFiring
from snnconvert.engines.integer.fired_apart import WORDS_OF
from snnconvert.engines.integer.fired_positions import fires_positions
from snnconvert.engines.integer.proof import INT32_LARGEST, LARGEST_BYTE
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT, Synapse, accumulator_bound
from snnconvert.neurons.transfer import LeakyTransfer, TableTransfer

Modules = Mapping[fx.Node, nn.Module]
_MOVING = frozenset({OpKind.LAYOUT, OpKind.MAX_POOL})


@dataclass
class Folds:
    """Where gains went.

    Attributes:
        factors: what to multiply a source's output by, by node.
        read_factors: what to multiply words by that a sum reads directly, by (sum, neuron).
        biases: whole counts that a synapse's accumulator starts at beside its bias, by node.
        readers: nodes whose gain, and bias if they have one, their sources have taken over.
        orders: the operands of each sum whose words have taken over a gain, in the order in which it is exact.
    """

    factors: dict[fx.Node, Tensor] = field(default_factory=dict)
    read_factors: dict[tuple[fx.Node, fx.Node], Tensor] = field(default_factory=dict)
    biases: dict[fx.Node, Tensor] = field(default_factory=dict)
    readers: set[fx.Node] = field(default_factory=set)
    orders: dict[fx.Node, tuple[fx.Node, ...]] = field(default_factory=dict)


def fold_gains(
    graph: fx.Graph,
    modules: Modules,
    dialect: Dialect,
    rectified: Collection[fx.Node],
    early: Mapping[fx.Node, EarlyFiring],
) -> Folds:
    """Finds every gain that can be folded.

    Args:
        graph: of a spiking network.
        modules: its modules by node.
        dialect: whether gains may go into the operands of sums.
        rectified: leaky transfers that are a gain with a rectifier behind it.
        early: what fires before it is moved, by the node it is moved from.
    """
    folds = Folds()
    for node in graph.nodes:
        module = modules.get(node)
        gain = module.gain if isinstance(module, LeakyTransfer) and node in rectified else _gain_of(module)
        if gain is None:
            continue
        sums = dialect.folds_sums and not isinstance(module, ToReal)
        found = _sources(node.args[0], gain, modules, sums=sums, pools=bool((gain > 0).all()))
        if found is None or (isinstance(module, ToReal) and not all(_scales(modules[n]) for n, _ in found)):
            continue
        fires_at_once = node in early and early[node].is_in_steps
        is_real = isinstance(module, ToReal) and _fires_behind(node, modules) and not fires_at_once
        is_function = isinstance(module, TableTransfer | LeakyTransfer) and not fires_positions(node, modules, dialect)
        is_floating_point = dialect.folds_weights and (is_real or is_function)
        if is_floating_point and not all(_stays_exact(modules[source], gain) for source, _ in found):
            continue
        if isinstance(module, SpikingNeuron) and module.bias is not None:
            counts = _accumulated(module.bias, [modules[source] for source, _ in found])
            if counts is None:
                continue
            folds.biases[found[0][0]] = counts
        added = _added(node)
        if added is not None:
            order = _exact_order(added, module, modules)
            if order is None:
                continue
            folds.orders[added] = order
        folds.readers.add(node)
        for source, consumer in found:
            if consumer is None:
                folds.factors[source] = gain
            else:
                folds.read_factors[consumer, source] = gain
    return folds


def _fires_behind(node: fx.Node, modules: Modules) -> bool:
    """Whether neurons read a node, moved or not."""
    for user in node.users:
        moves = user.op == "call_function" and kind_of(user) in (OpKind.LAYOUT, OpKind.CONCAT, OpKind.MAX_POOL)
        if isinstance(modules.get(user), (SpikingNeuron, TableTransfer)) or (moves and _fires_behind(user, modules)):
            return True
    return False


def _scales(module: nn.Module) -> bool:
    """Whether a runtime's kernel multiplies a module's sums by a scale of their own."""
    matrices = isinstance(module, Product) and module.operation == "matmul" and module.unit.numel() == 1
    return isinstance(module, Synapse) or matrices


def _stays_exact(module: nn.Module, gain: Tensor) -> bool:
    """Whether a convolution in floating point adds up products with g exactly, in any order."""
    if not isinstance(module, Synapse) or module.geometry is None:
        return True
    mantissas = torch.frexp(gain.double().abs())[0].mul(FLOAT32_EXACT).to(torch.int64)
    odd = mantissas // (mantissas & -mantissas).clamp(min=1)
    return bool((module.bound().cpu() * odd.flatten().cpu() <= FLOAT32_EXACT).all())


def _added(node: fx.Node) -> fx.Node | None:
    """The sum that neurons read, behind max-pools or not."""
    source = node.args[0]
    while isinstance(source, fx.Node) and source.op == "call_function" and kind_of(source) is OpKind.MAX_POOL:
        source = source.args[0]
    is_sum = isinstance(source, fx.Node) and source.op == "call_function" and kind_of(source) is OpKind.ADD
    return source if isinstance(source, fx.Node) and is_sum else None


def _exact_order(added: fx.Node, neuron: nn.Module | None, modules: Modules) -> tuple[fx.Node, ...] | None:
    """The operands of a sum of words in the order in which neurons may be fired on it; None if there is none."""
    nodes = [operand for operand in added.args[:2] if isinstance(operand, fx.Node)]
    operands = [_operand(node, neuron, modules) for node in nodes]
    known = [operand for operand in operands if operand is not None]
    if not isinstance(neuron, SpikingNeuron) or len(known) < len(operands):
        return None
    order = exact_order(known, neuron.code.offset)
    return None if order is None else tuple(nodes[place] for place in order)


def _operand(node: fx.Node, neuron: nn.Module | None, modules: Modules) -> Operand | None:
    """Words as they enter a sum that has taken over a gain; None of anything else."""
    gain, scale = _gain_of(neuron), modules.get(node)
    source = node.args[0] if isinstance(scale, IntegerScale) else node
    words = _words_of(source, modules)
    if gain is None or words is None:
        return None
    multiplier = scale.multiplier.double() if isinstance(scale, IntegerScale) else 1.0
    return Operand(gain.double() * multiplier, words.code.offset)


def _words_of(source: object, modules: Modules) -> SpikingNeuron | None:
    """The neurons whose words a node is, moved or not; one of them where a layer's words are joined from parts."""
    while isinstance(source, fx.Node) and source.op == "call_function" and kind_of(source) in _MOVING:
        source = source.args[0]
    if isinstance(source, fx.Node) and WORDS_OF in source.meta:
        source = source.all_input_nodes[0]
    module = modules.get(source) if isinstance(source, fx.Node) else None
    return module if isinstance(module, SpikingNeuron) and isinstance(module.code, PackedCode) else None


def _gain_of(module: nn.Module | None) -> Tensor | None:
    if isinstance(module, (SpikingNeuron, TableTransfer)):
        return module.gain
    return module.unit.to(torch.float32) if isinstance(module, ToReal) else None


def _accumulated(bias: Tensor, sources: list[nn.Module]) -> Tensor | None:
    """A neuron's bias in counts of the accumulator of the one synapse it reads; None if these aren't whole numbers."""
    synapse = sources[0]
    if len(sources) != 1 or not isinstance(synapse, Synapse) or bias.numel() not in (1, len(synapse.bias)):
        return None
    counts = bias.double().flatten() / synapse.multiplier
    largest = accumulator_bound(synapse.weight, synapse.bias.abs() + counts.abs(), -LARGEST_BYTE, LARGEST_BYTE).max()
    return counts if bool((counts == counts.round()).all()) and float(largest) <= INT32_LARGEST else None


def _sources(
    node: object, gain: Tensor, modules: Modules, *, sums: bool, pools: bool
) -> list[tuple[fx.Node, fx.Node | None]] | None:
    """What a potential is made of: (source, None), or (neuron, the sum that reads its words); None if it is shared."""
    if not isinstance(node, fx.Node) or len(node.users) != 1:
        return None
    module = modules.get(node)
    if isinstance(module, Synapse):
        return [(node, None)] if gain.numel() in (1, len(module.bias)) else None
    if isinstance(module, (IntegerScale, SumPool, Product)):
        return [(node, None)]
    kind = kind_of(node) if node.op == "call_function" else None
    if kind is OpKind.MAX_POOL and pools:
        return _sources(node.args[0], gain, modules, sums=sums, pools=pools)
    if kind is not OpKind.ADD or not sums or node.kwargs:
        return None
    found: list[tuple[fx.Node, fx.Node | None]] = []
    for operand in node.all_input_nodes:
        if isinstance(modules.get(operand), SpikingNeuron):
            found.append((operand, node))
        elif isinstance(modules.get(operand), IntegerScale) and len(operand.users) == 1:
            found.append((operand, None))
        else:
            return None
    return found
