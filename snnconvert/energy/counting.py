"""Plain operation counting, as most papers on conversion do it: arithmetic has a price, memory is free."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.energy.constants import Constants
from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.workload import REAL_BITS, LayerWork

_BYTE_PRODUCT = 8 * 8


@dataclass(frozen=True)
class CountingConstants(Constants):
    """Prices of operations, in pJ.

    Attributes:
        float32_mac_pj: one multiply-accumulate of float32.
        float32_add_pj: one addition of float32.
        int8_multiply_pj: one product of two 8-bit integers; one of b_w and b_a bits takes b_w·b_a/64 of it.
        int32_add_pj: one addition into an accumulator.
        operation_pj: one element-wise operation on real numbers.
    """

    float32_mac_pj: float = 4.6
    float32_add_pj: float = 0.9
    int8_multiply_pj: float = 0.2
    int32_add_pj: float = 0.1
    operation_pj: float = 4.6


class OperationCounting(EnergyModel):
    """Multiply-accumulates of the ANN against accumulations of the spiking network:

        E_ANN = MAC·E_MAC,  E_serial = MAC·T·b_s·ρ·E_AC,  E_packed = MAC·d·E_MAC(b_w, b_z)

    with ρ the share of ones among the bits of spikes, d that of words that are not zero, b_z their bits, and
    E_MAC(b_w, b_a) = E_mul8·b_w·b_a/64 + E_add32. E_AC is one addition into an accumulator: of float32 where weights
    are float32 (b_w = 32), as in the literature, else of integers. ANN and twin compute every product, zeros too.

    Source: Horowitz, "Computing's energy problem" (ISSCC 2014), 45 nm, 0.9 V: 4.6 and 0.9 pJ as conversion papers
    take them, 8-bit product 0.2 pJ, 32-bit addition 0.1 pJ from secondary notes. Products of other widths scaled by
    b_w·b_a (an array multiplier's cells) are this package's own.
    """  # noqa: D415

    name = "counting"
    title = "plain operation counting"
    source = "Horowitz, ISSCC 2014; products of other widths than 8 bits scaled by this package"

    def __init__(self, constants: CountingConstants | None = None) -> None:
        self.constants = constants or CountingConstants()

    def spiking_layer(self, work: LayerWork, network: Network) -> Cost:
        """See the class."""
        return Cost(compute=work.macs * self._per_mac(work, network))

    def _per_mac(self, work: LayerWork, network: Network) -> float:
        if network is Network.ANN_FLOAT32:
            return self.constants.float32_mac_pj
        if network is Network.ANN_INT8:
            return self.mac(8, 8)
        if network is Network.TWIN_QNN:
            return self.mac(work.weight_bits, work.word_bits)
        if network is Network.SNN_PACKED:
            return work.word_density * self.mac(work.weight_bits, work.word_bits)
        return work.planes * work.bit_density * self.accumulate(work.weight_bits)

    def mac(self, weight_bits: float, activation_bits: float) -> float:
        """E_MAC(b_w, b_a) in pJ."""
        if max(weight_bits, activation_bits) >= REAL_BITS:
            return self.constants.float32_mac_pj
        product = self.constants.int8_multiply_pj * weight_bits * activation_bits / _BYTE_PRODUCT
        return product + self.constants.int32_add_pj

    def accumulate(self, weight_bits: float) -> float:
        """E_AC in pJ."""
        return self.constants.float32_add_pj if weight_bits >= REAL_BITS else self.constants.int32_add_pj

    def real_macs(self, macs: int, network: Network) -> Cost:
        """At the price of float32, of 8 bits in the 8-bit ANN."""
        each = self.mac(8, 8) if network is Network.ANN_INT8 else self.constants.float32_mac_pj
        return Cost(compute=macs * each)

    def operations(self, real: int, integer: int) -> Cost:
        """One price for each operation on real numbers, one addition for each of integers."""
        return Cost(compute=real * self.constants.operation_pj + integer * self.constants.int32_add_pj)
