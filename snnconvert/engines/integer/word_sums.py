"""Sums of words, and how their operands are best written down: as bytes, or inside the kernel that fires them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import fx, nn

from snnconvert.convert.aligned_sums import is_kept_by_division
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.engines.integer.plain_sums import multiplier_of, plain_sums
from snnconvert.neurons.current import IntegerScale
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse


class WordSums:
    """The sums of a spiking graph that may be of words.

    Attributes:
        plain: the power of two that goes behind each sum of two words, by node; empty for runtimes that scale words as
            they read them.
    """

    def __init__(
        self,
        graph: fx.Graph,
        modules: Mapping[fx.Node, nn.Module],
        has_zero_point: Callable[[fx.Node], bool],
        *,
        folds_sums: bool,
    ) -> None:
        """Finds them.

        A sum isn't plain if the words that would enter it as they are have a zero point, or if anything but sums reads
        the others: OpenVINO (2026.4) then moves the zero point behind the sum, or the others' scale, by a division.
        Nor is it if two divisions change that scale.

        Args:
            graph: of a spiking network.
            modules: its modules by node.
            has_zero_point: whether a neuron's bytes have a zero point other than 0.
            folds_sums: whether a neuron's gain goes into the scales of the words it adds up.
        """
        self._modules = modules
        self.plain: Mapping[fx.Node, float] = {} if folds_sums else plain_sums(graph, modules)
        self.plain = {node: unit for node, unit in self.plain.items() if self._keeps_scales(node, has_zero_point)}

    def _keeps_scales(self, node: fx.Node, has_zero_point: Callable[[fx.Node], bool]) -> bool:
        operand, as_it_is = self.operands(node)
        scale = torch.tensor(multiplier_of(operand, self._modules)) / self.plain[node]
        if has_zero_point(self.neuron_of(as_it_is)) or not self.only_joins(self.neuron_of(operand)):
            return False
        return is_kept_by_division(scale)

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """The operands of a plain sum, last the one that enters as it is: OpenVINO divides by its scale."""
        plain = self.plain[node]
        return sorted(node.all_input_nodes, key=lambda operand: multiplier_of(operand, self._modules) == plain)

    def neuron_of(self, operand: fx.Node) -> fx.Node:
        """What an operand brings to the scale of its sum, or the operand itself."""
        return operand.all_input_nodes[0] if isinstance(self._modules.get(operand), IntegerScale) else operand

    def is_words(self, node: fx.Node) -> bool:
        """Whether a node is words, at whatever scale."""
        return isinstance(self._modules.get(self.neuron_of(node)), SpikingNeuron)

    def moves_words(self, node: fx.Node) -> bool:
        """Whether a node is words at one scale, moved or not: OpenVINO clips them before it scales them."""
        if node.op == "call_function" and not is_sum(node):
            return any(map(self.moves_words, node.all_input_nodes))
        return self.is_words(node)

    def adds_single_scales(self, node: fx.Node) -> bool:
        """Whether a node is a sum of integers that have one scale each.

        OpenVINO brings the scales of its operands behind such a sum, one of them divided by the other.
        """
        if not is_sum(node):
            return False
        return all(self._has_one_scale(source) for source in node.all_input_nodes)

    def _has_one_scale(self, node: fx.Node) -> bool:
        """Whether an operand of a sum is integers at one scale for all channels, as far as can be told."""
        module = self._modules.get(node)
        if isinstance(module, Synapse):
            return bool((module.multiplier == module.multiplier[0]).all())
        return self.is_words(node) or node.op != "call_function" or self.adds_single_scales(node)

    def joins(self, node: fx.Node) -> bool:
        """Whether a sum reads some words; OpenVINO may leave out the rounding of those that nothing else reads."""
        return any(map(self._brings_to_sum, node.users))

    def only_joins(self, node: fx.Node) -> bool:
        """Whether nothing but sums reads some words."""
        return all(map(self._brings_to_sum, node.users))

    def _brings_to_sum(self, user: fx.Node) -> bool:
        return isinstance(self._modules.get(user), IntegerScale) or is_sum(user)

    def is_added_in_kernel(self, node: fx.Node) -> bool:
        """Whether words are only the scaled operand of a plain sum: the kernel that fires them adds them up."""
        reader = node
        while len(reader.users) == 1:
            operand, reader = reader, next(iter(reader.users))
            if reader in self.plain:
                return self.operands(reader)[0] is operand
            if not isinstance(self._modules.get(reader), IntegerScale):
                break
        return False

    def is_read_by_synapse(self, node: fx.Node) -> bool:
        """Whether a synapse reads some words, so that they are bytes in memory whatever else reads them."""
        return any(isinstance(self._modules.get(user), Synapse) for user in node.users)


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds values up."""
    return node.op == "call_function" and kind_of(node) is OpKind.ADD
