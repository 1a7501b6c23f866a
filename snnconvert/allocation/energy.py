"""Energy of synapses: the spiking half of a twin comparison, for packed words that are sent bit by bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import fx

from snnconvert.convert.graph_tools import constant_of
from snnconvert.convert.ops import TRANSPOSED, groups_of
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.convert.shapes import product_terms
from snnconvert.errors import ConfigurationError
from snnconvert.neurons.synapse import outputs_first

_PJ_PER_UJ = 1e6
_MEMBRANE_BITS = 8


@dataclass(frozen=True)
class TwinEnergy:
    """Energy of one synapse for one image, in pJ:

        E = B·s_r·(E_move·h + E_acc + e·b_w) + (B/N)·(E_cmp + 2·8·e) + B·s_r·E_sub/N

    with B = b_s·T bit planes, s_r the share of ones among them, N the synapses of a neuron and b_w weight bits:
    each one is moved as an event over h hops, reads a weight and is added; each neuron and plane compares and
    reads and writes 8 bits of membrane; each one that is fired is subtracted once.

    Source: Yan et al., "Reconsidering the energy efficiency of spiking neural networks" (arXiv 2409.08290, v2 on;
    22 nm, 0.80 V). The formula and the memory energy are a reconstruction from secondary notes, fitted to the
    reported figures; bit planes in place of time steps are this package's own.

    Attributes:
        accumulate: E_acc, pJ.
        compare: E_cmp, pJ.
        subtract: E_sub, pJ.
        move: of one event, pJ per hop.
        hops: h.
        memory: e, pJ per bit.
    """  # noqa: D415

    accumulate: float = 0.05448
    compare: float = 0.05448
    subtract: float = 0.05448
    move: float = 3.0
    hops: float = 1.0
    memory: float = 0.036

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
                raise ConfigurationError(f"{item.name} must not be negative, got {value!r}")

    def per_synapse(self, planes: int, set_bits: float, weight_bits: int, fan_in: int) -> float:
        """E in pJ.

        Args:
            planes: B.
            set_bits: s_r.
            weight_bits: b_w.
            fan_in: N.
        """
        spikes = planes * set_bits
        of_spikes = self.move * self.hops + self.accumulate + self.memory * weight_bits + self.subtract / fan_in
        return spikes * of_spikes + planes * (self.compare + 2 * _MEMBRANE_BITS * self.memory) / fan_in


class EnergyPrice:
    """Microjoules per image of a synapse, by the words it would read."""

    def __init__(
        self,
        graph_module: fx.GraphModule,
        plan: Plan,
        set_bits: Mapping[tuple[int, int], float],
        model: TwinEnergy | None = None,
    ) -> None:
        """Takes the network.

        Args:
            graph_module: the canonical graph.
            plan: its plan.
            set_bits: share of ones of the words of (family, word bits).
            model: the energies.
        """
        nodes = {node.name: node for node in graph_module.graph.nodes}
        self._fan_in = {item.node: _fan_in(graph_module, nodes[item.node], item) for item in plan.synapses}
        self._set_bits, self._model = set_bits, model or TwinEnergy()

    def __call__(self, item: SynapsePlan, weight_bits: int, word_bits: int) -> float:
        """Of one synapse at (weight bits, word bits).

        Raises:
            ConfigurationError: if its neurons aren't packed.
        """
        if (item.family, word_bits) not in self._set_bits:
            raise ConfigurationError(f"{item.layer} reads {item.neuron} neurons: energies are of packed ones")
        share = self._set_bits[item.family, word_bits]
        each = self._model.per_synapse(word_bits, share, weight_bits, self._fan_in[item.node])
        return item.macs * each / _PJ_PER_UJ


def _fan_in(graph_module: fx.GraphModule, node: fx.Node, item: SynapsePlan) -> int:
    """Synapses of one neuron behind a layer."""
    if item.held is not None:
        return max(product_terms(node), 1)
    weight = constant_of(graph_module, node.args[1])
    assert weight is not None
    oriented = outputs_first(weight, groups_of(node)) if node.target in TRANSPOSED else weight
    return oriented[0].numel()
