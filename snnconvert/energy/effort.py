"""Arithmetic effort without hardware: S-ACE and NS-ACE, in pairs of bits."""

from __future__ import annotations

from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.workload import REAL_BITS, LayerWork


class SynapticEffort(EnergyModel):
    """S-ACE = MAC·T·b_w·b_s, the bit pairs that meet; of ANN and twin MAC·b_w·b_a (ACE).

    Source: Shen et al., "Are Conventional SNNs Really Efficient?", CVPR 2024, after ACE (Zhang et al., PokeBNN, CVPR
    2022); formulas from secondary notes. The packed form, MAC·b_w·⌈log2 levels⌉, is this package's own.
    """

    name = "s-ace"
    title = "arithmetic effort, S-ACE"
    unit = "bit pairs"
    source = "Shen et al., CVPR 2024, from secondary notes"

    def spiking_layer(self, work: LayerWork, network: Network) -> Cost:
        """See the class."""
        return Cost(compute=work.macs * self._pairs(work, network))

    def _pairs(self, work: LayerWork, network: Network) -> float:
        if network is Network.ANN_FLOAT32:
            return REAL_BITS * REAL_BITS
        if network is Network.ANN_INT8:
            return 8 * 8
        if network is Network.SNN_SERIAL:
            return work.planes * work.weight_bits * self._activity(work, network)
        return work.weight_bits * work.word_bits * self._activity(work, network)

    def _activity(self, work: LayerWork, network: Network) -> float:  # noqa: ARG002
        return 1.0

    def real_macs(self, macs: int, network: Network) -> Cost:
        """32·32 pairs each, 8·8 in the 8-bit ANN."""
        return Cost(compute=macs * (8 * 8 if network is Network.ANN_INT8 else REAL_BITS * REAL_BITS))

    def operations(self, real: int, integer: int) -> Cost:  # noqa: ARG002
        """Nothing: effort is that of multiply-accumulates."""
        return Cost()


class NeuromorphicEffort(SynapticEffort):
    """NS-ACE = fr·S-ACE with fr the share of spikes that are not zero; ANN and twin compute zeros, too.

    Packed words skip what is zero as a whole: their share of non-zero words takes the place of fr.

    Source: as :class:`SynapticEffort`.
    """

    name = "ns-ace"
    title = "arithmetic effort of spikes that are not zero, NS-ACE"

    def _activity(self, work: LayerWork, network: Network) -> float:
        if network is Network.SNN_SERIAL:
            return work.firing_rate
        return work.word_density if network is Network.SNN_PACKED else 1.0
