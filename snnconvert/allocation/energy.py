"""Energy of synapses at every width, for allocations under a limit of energy."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from snnconvert.convert.layer_sizes import fan_in
from snnconvert.convert.plan import Plan, SynapsePlan
from snnconvert.energy.twin import TwinModel
from snnconvert.errors import ConfigurationError

_PJ_PER_UJ = 1e6


class EnergyPrice:
    """Microjoules per image of a synapse, by the words it would read, in the twin model, sent bit by bit."""

    def __init__(
        self,
        graph_module: fx.GraphModule,
        plan: Plan,
        set_bits: Mapping[tuple[int, int], float],
        model: TwinModel | None = None,
    ) -> None:
        """Takes the network.

        Args:
            graph_module: the canonical graph.
            plan: its plan.
            set_bits: share of ones of the words of (family, word bits).
            model: the energies.
        """
        nodes = {node.name: node for node in graph_module.graph.nodes}
        self._fan_in = {item.node: fan_in(nodes[item.node]) for item in plan.synapses}
        self._set_bits, self._model = set_bits, model or TwinModel()

    def __call__(self, item: SynapsePlan, weight_bits: int, word_bits: int) -> float:
        """Of one synapse at (weight bits, word bits).

        Raises:
            ConfigurationError: if its neurons aren't packed.
        """
        if (item.family, word_bits) not in self._set_bits:
            raise ConfigurationError(f"{item.layer} reads {item.neuron} neurons: energies are of packed ones")
        share = self._set_bits[item.family, word_bits]
        each = self._model.serial(word_bits, share, weight_bits, self._fan_in[item.node])
        return item.macs * each.total / _PJ_PER_UJ
