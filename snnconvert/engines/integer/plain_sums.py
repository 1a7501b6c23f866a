"""Sums of words that a convolution's kernel can add up: one of the words enters as it is, the others at a short scale.

g·Σ m_j·z_j with m_b = 2^k is (2^k·g)·Σ (m_j/2^k)·z_j, exact in float32 as long as Σ m_j·|z_j| stays below 2^24.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.logarithmic import LogarithmicCode
from snnconvert.neurons.neuron import SpikingNeuron


def plain_sums(graph: fx.Graph, modules: Mapping[fx.Node, nn.Module]) -> dict[fx.Node, float]:
    """The power of two among the multipliers of each sum of words that one layer of neurons reads, and nobody else.

    Args:
        graph: of a spiking network.
        modules: its modules by node.
    """
    found: dict[fx.Node, float] = {}
    for node in graph.nodes:
        if node.op != "call_function" or kind_of(node) is not OpKind.ADD or node.kwargs or len(node.users) != 1:
            continue
        operands = node.all_input_nodes
        multipliers = [multiplier_of(operand, modules) for operand in operands]
        known = [multiplier for multiplier in multipliers if multiplier is not None]
        bare = any(isinstance(modules.get(operand), SpikingNeuron) for operand in operands)
        powers = [1.0] if bare else [multiplier for multiplier in known if _is_power_of_two(multiplier)]
        is_read = isinstance(modules.get(next(iter(node.users))), SpikingNeuron)
        if is_read and len(known) == len(multipliers) == 2 and powers:
            found[node] = powers[-1]
    return found


def multiplier_of(operand: fx.Node, modules: Mapping[fx.Node, nn.Module]) -> float | None:
    """The multiplier of words that enter a sum; None of anything else."""
    module = modules.get(operand)
    if isinstance(module, SpikingNeuron):
        return None if isinstance(module.code, LogarithmicCode) else 1.0
    if not isinstance(module, IntegerScale) or module.wide or module.multiplier.numel() != 1 or len(operand.users) != 1:
        return None
    (source,) = operand.all_input_nodes
    if not isinstance(modules.get(source), SpikingNeuron) or multiplier_of(source, modules) is None:
        return None
    return _value(module.multiplier)


def _value(multiplier: Tensor) -> float:
    return float(multiplier.flatten()[0])


def _is_power_of_two(number: float) -> bool:
    return number > 0 and bool(torch.frexp(torch.tensor(number)).mantissa == 0.5)
