"""The first energy model of Yan et al.: memory hierarchy, spatial dataflow, and the same with a network on chip."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.energy.constants import Constants
from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.workload import REAL_BITS, LayerWork
from snnconvert.errors import ConfigurationError

_BYTE = 8
_SOURCE = "Yan et al., arXiv 2409.08290v1, decoded from the curves of its official code"


@dataclass(frozen=True)
class HierarchyConstants(Constants):
    """Energies of the first model of Yan et al.; of memory by bit: 8-bit words take the paper's 20 and 2000 pJ.

    Attributes:
        int8_add_pj: one addition.
        int8_multiply_pj: one product of 8-bit integers; of other widths b_w·b_a/64 of it.
        float32_mac_pj: one multiply-accumulate of float32.
        sram_pj_per_bit: reading or writing one bit of on-chip memory.
        dram_pj_per_bit: of external memory.
        reuse: R, how often a word is used once it was fetched from external memory.
        membrane_bits: of a membrane potential or partial sum between integers.
        hop_pj_per_bit: moving one bit to the next core.
        mean_hops: h, from core to core.
        event_bits: of one spike on the network, its address.
        operation_pj: one element-wise operation on real numbers, memory apart.
    """

    int8_add_pj: float = 0.03
    int8_multiply_pj: float = 0.2
    float32_mac_pj: float = 4.6
    sram_pj_per_bit: float = 2.5
    dram_pj_per_bit: float = 250.0
    reuse: float = 216.0
    membrane_bits: float = 8.0
    hop_pj_per_bit: float = 10.0
    mean_hops: float = 1.0
    event_bits: float = 8.0
    operation_pj: float = 4.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reuse == 0:
            raise ConfigurationError("reuse must be above 0: a fetched word is used at least in part")


@dataclass(frozen=True)
class _Widths:
    """Bits of weights, activations and partial sums, and how busy activations are."""

    weight: float
    activation: float
    partial_sum: float
    density: float


class MemoryHierarchy(EnergyModel):
    """Energy for each synapse where everything passes a multi-level memory:

        E_ANN = d·(E_MAC + S(b_a) + S(b_w) + 2·S(b_v)) + (D(b_a) + S(b_a))/R
        E_SNN = B·ρ·(E_ADD + S(b_w) + 2·S(b_v) + S(k)) + B·ρ·E_ADD/N + B·(3·S(b_v) + 2·E_ADD + S(k))/N + F
        F = k·(D(8) + S(8))/R,   k = 2B/(B + 1)

    with S(b) and D(b) the energy of b bits in on-chip and external memory, d the density of activations, ρ that of
    spikes in B = T·b_s binary steps, N the fan-in, R the reuse of a fetched word. The packed network is the twin: its
    words are the twin's activations.

    Source: Yan et al., "Reconsidering the energy efficiency of spiking neural networks" (arXiv 2409.08290v1); the
    formulas from the curves of its code, where 64.32 pJ (T = 6) and 64.35 pJ stand for the two brackets, whose split is
    a reconstruction; the paper has b_w = b_a = b_v = 8, other widths and float32 are this package's own.
    """  # noqa: D415

    name = "hierarchy"
    title = "memory hierarchy"
    source = _SOURCE

    def __init__(self, constants: HierarchyConstants | None = None) -> None:
        self.constants = constants or HierarchyConstants()

    def spiking_layer(self, work: LayerWork, network: Network) -> Cost:
        """See the class."""
        if network is Network.SNN_SERIAL:
            return self._serial(work) * work.macs
        return self._dense(self._widths(work, network)) * work.macs

    def _widths(self, work: LayerWork, network: Network) -> _Widths:
        if network is Network.ANN_FLOAT32:
            return _Widths(REAL_BITS, REAL_BITS, REAL_BITS, work.dense_share)
        if network is Network.ANN_INT8:
            return _Widths(_BYTE, _BYTE, self.constants.membrane_bits, work.dense_share)
        density = work.word_density if network is Network.SNN_PACKED else work.dense_share
        return _Widths(work.weight_bits, work.word_bits, self.constants.membrane_bits, density)

    def _dense(self, widths: _Widths) -> Cost:
        fetched = (self._external(widths.activation) + self._on_chip(widths.activation)) / self.constants.reuse
        return Cost(
            compute=widths.density * self.mac(widths.weight, widths.activation),
            weights=widths.density * self._on_chip(widths.weight),
            activations=widths.density * self._on_chip(widths.activation) + fetched,
            state=widths.density * 2 * self._on_chip(widths.partial_sum),
        )

    def _serial(self, work: LayerWork) -> Cost:
        planes, spikes, add = work.planes, work.planes * work.bit_density, self.constants.int8_add_pj
        train_words = 2 * planes / (planes + 1)
        membrane, train = self._on_chip(self.constants.membrane_bits), self._on_chip(train_words)
        fetched = train_words * (self._external(_BYTE) + self._on_chip(_BYTE)) / self.constants.reuse
        return Cost(
            compute=spikes * add + (spikes * add + planes * 2 * add) / work.fan_in,
            weights=spikes * self._on_chip(work.weight_bits),
            activations=spikes * train + planes * train / work.fan_in + fetched,
            state=spikes * 2 * membrane + planes * 3 * membrane / work.fan_in,
        )

    def mac(self, weight_bits: float, activation_bits: float) -> float:
        """E_MAC(b_w, b_a) in pJ."""
        if max(weight_bits, activation_bits) >= REAL_BITS:
            return self.constants.float32_mac_pj
        return self.constants.int8_multiply_pj * weight_bits * activation_bits / _BYTE**2 + self.constants.int8_add_pj

    def _on_chip(self, bits: float) -> float:
        return bits * self.constants.sram_pj_per_bit

    def _external(self, bits: float) -> float:
        return bits * self.constants.dram_pj_per_bit

    def real_macs(self, macs: int, network: Network) -> Cost:
        """Dense, at 32 bits, at 8 in the 8-bit ANN."""
        bits = _BYTE if network is Network.ANN_INT8 else REAL_BITS
        partial_sum = self.constants.membrane_bits if network is Network.ANN_INT8 else REAL_BITS
        return self._dense(_Widths(bits, bits, partial_sum, 1.0)) * macs

    def operations(self, real: int, integer: int) -> Cost:
        """Each reads two values and writes one in on-chip memory."""
        return Cost(
            compute=real * self.constants.operation_pj + integer * self.constants.int8_add_pj,
            activations=real * 3 * self._on_chip(REAL_BITS),
            state=integer * 3 * self._on_chip(self.constants.membrane_bits),
        )


class SpatialDataflow(MemoryHierarchy):
    """Energy for each synapse where weights stay and sums are local:

        E_ANN = d·(S(b_w) + E_MAC),   E_SNN = B·ρ·(S(b_w) + E_ADD) + B·(2·S(b_v) + 2·E_ADD)/N

    Source: as :class:`MemoryHierarchy`.
    """  # noqa: D415

    name = "spatial"
    title = "spatial dataflow"

    def _dense(self, widths: _Widths) -> Cost:
        return Cost(
            compute=widths.density * self.mac(widths.weight, widths.activation),
            weights=widths.density * self._on_chip(widths.weight),
        )

    def _serial(self, work: LayerWork) -> Cost:
        spikes, add = work.planes * work.bit_density, self.constants.int8_add_pj
        return Cost(
            compute=spikes * add + work.planes * 2 * add / work.fan_in,
            weights=spikes * self._on_chip(work.weight_bits),
            state=work.planes * 2 * self._on_chip(self.constants.membrane_bits) / work.fan_in,
        )


class NeuromorphicDataflow(SpatialDataflow):
    """Spatial dataflow on many cores, where what a neuron sends passes a network on chip:

        E_ANN + d·b_a·h·E_hop/F,   E_SNN + B·ρ·b_e·h·E_hop/F

    with h hops of E_hop a bit, b_e bits of an event and F the fan-out that shares it. Packed words are events of b_e
    bits and the word's own.

    Source: as :class:`MemoryHierarchy`; the printed formula could not be read, this is a reconstruction.
    """  # noqa: D415

    name = "neuromorphic"
    title = "spatial dataflow with a network on chip"

    def spiking_layer(self, work: LayerWork, network: Network) -> Cost:
        """See the class."""
        moved = Cost(movement=work.inputs * self._bits_sent(work, network) * self._per_bit)
        return super().spiking_layer(work, network) + moved

    @property
    def _per_bit(self) -> float:
        return self.constants.mean_hops * self.constants.hop_pj_per_bit

    def _bits_sent(self, work: LayerWork, network: Network) -> float:
        """Bits one value it reads takes on the network, in the mean."""
        if network is Network.SNN_SERIAL:
            return work.planes * work.bit_density * self.constants.event_bits
        widths = self._widths(work, network)
        header = self.constants.event_bits if network is Network.SNN_PACKED else 0.0
        return widths.density * (widths.activation + header)
