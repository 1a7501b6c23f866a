"""The second energy model of Yan et al.: a spiking network beside its twin, the integer network of the same levels."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.energy.constants import Constants
from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.workload import REAL_BITS, LayerWork
from snnconvert.errors import ConfigurationError

_REUSES, _GATINGS = ("none", "window"), ("mac", "weights")


@dataclass(frozen=True)
class TwinConstants(Constants):
    """Energies and switches of the twin model.

    Attributes:
        accumulate_pj: E_acc, adding one weight.
        compare_pj: E_cmp, a neuron's potential with its threshold.
        subtract_pj: E_sub, a fired threshold from a potential.
        mac_pj: E_mac is this ...
        mac_pj_per_bit: ... and this times b_w.
        float32_mac_pj: a multiply-accumulate of float32.
        memory_pj_per_bit: e, on-chip memory.
        membrane_bits: of a potential, read and written at every step.
        sparse_move_pj_per_bit_per_hop: of an event.
        dense_move_pj_per_bit_per_hop: of a stream of activations.
        hops: h.
        operation_pj: one element-wise operation on real numbers.
        weight_reuse: "none": a spike reads each of its weights, whenever it comes; "window": a neuron's weights are
            read once in a window with any spike.
        gating: what a zero activation spares the twin: "mac": the product; "weights": reading the weight, too.
    """

    accumulate_pj: float = 0.05448
    compare_pj: float = 0.05448
    subtract_pj: float = 0.05448
    mac_pj: float = 0.06
    mac_pj_per_bit: float = 0.027
    float32_mac_pj: float = 1.1
    memory_pj_per_bit: float = 0.036
    membrane_bits: float = 8.0
    sparse_move_pj_per_bit_per_hop: float = 3.0
    dense_move_pj_per_bit_per_hop: float = 0.25
    hops: float = 1.0
    operation_pj: float = 1.1
    weight_reuse: str = "none"
    gating: str = "mac"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, known in (("weight_reuse", self.weight_reuse, _REUSES), ("gating", self.gating, _GATINGS)):
            if value not in known:
                raise ConfigurationError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")


class TwinModel(EnergyModel):
    """Energy for each synapse of a spiking network and of its twin:

        E_serial = B·ρ·(M_s·h + E_acc + e·b_w) + (B/N)·(E_cmp + 2·b_v·e) + B·ρ·E_sub/N
        E_twin   = b_z·M_d·h + e·b_w + d·E_mac(b_w)
        E_packed = d·(b_z·M_s·h + E_mac(b_w) + e·b_w) + (1/N)·(E_cmp + 2·b_v·e) + d·E_sub/N

    with B = T·b_s binary steps, ρ the share of ones among their spikes, b_z = ⌈log2 levels⌉, d the share of words that
    are not zero (for a rate code in the mean d = 2·T·ρ/(T + 1)), N the fan-in, M_s and M_d the energy of moving a bit
    as an event and in a stream over h hops, e that of a bit in memory. With reuse "window" a weight is read d instead
    of B·ρ times, with gating "weights" the twin reads d·e·b_w. The ANN in 8 bits is a twin with b_z = b_w = 8, in
    float32 with 32.

    Source: Yan et al., "Reconsidering the energy efficiency of spiking neural networks" (arXiv 2409.08290, v2 on;
    22 nm, 0.80 V). Formulas, e and E_mac are a reconstruction from secondary notes, fitted to the reported break-even
    rates: it gives them within 0.3 points but for T = 1 at 8 bits (17.5 % instead of 29.7 %). Bit planes of wider
    spikes, the packed form and float32 are this package's own.
    """  # noqa: D415

    name = "twin"
    title = "spiking network and its twin"
    source = "Yan et al., arXiv 2409.08290 v2 on, reconstructed"

    def __init__(self, constants: TwinConstants | None = None) -> None:
        self.constants = constants or TwinConstants()

    def spiking_layer(self, work: LayerWork, network: Network) -> Cost:
        """See the class."""
        if network is Network.SNN_SERIAL:
            each = self.serial(work.planes, work.bit_density, work.weight_bits, work.fan_in, work.word_density)
        elif network is Network.SNN_PACKED:
            each = self._packed(work)
        else:
            each = self._twin(work, network)
        return each * work.macs

    def serial(
        self, planes: int, bit_density: float, weight_bits: float, fan_in: int, word_density: float = 1.0
    ) -> Cost:
        """Of one synapse, in pJ.

        Args:
            planes: B.
            bit_density: ρ.
            weight_bits: b_w.
            fan_in: N.
            word_density: d, which only weights that are reused ask for.
        """
        given, spikes = self.constants, planes * bit_density
        reads = word_density if given.weight_reuse == "window" else spikes
        return Cost(
            compute=spikes * (given.accumulate_pj + given.subtract_pj / fan_in) + planes * given.compare_pj / fan_in,
            weights=reads * given.memory_pj_per_bit * weight_bits,
            state=planes * 2 * given.membrane_bits * given.memory_pj_per_bit / fan_in,
            movement=spikes * given.sparse_move_pj_per_bit_per_hop * given.hops,
        )

    def _packed(self, work: LayerWork) -> Cost:
        given, density = self.constants, work.word_density
        fired = given.compare_pj + density * given.subtract_pj
        return Cost(
            compute=density * self.mac(work.weight_bits) + fired / work.fan_in,
            weights=density * given.memory_pj_per_bit * work.weight_bits,
            state=2 * given.membrane_bits * given.memory_pj_per_bit / work.fan_in,
            movement=density * work.word_bits * given.sparse_move_pj_per_bit_per_hop * given.hops,
        )

    def _twin(self, work: LayerWork, network: Network) -> Cost:
        if network is Network.TWIN_QNN:
            return self._dense(work.weight_bits, work.word_bits, work.word_density)
        bits = REAL_BITS if network is Network.ANN_FLOAT32 else 8
        return self._dense(bits, bits, work.dense_share)

    def _dense(self, weight_bits: float, activation_bits: float, density: float) -> Cost:
        given = self.constants
        reads = density if given.gating == "weights" else 1.0
        return Cost(
            compute=density * self.mac(weight_bits),
            weights=reads * given.memory_pj_per_bit * weight_bits,
            movement=activation_bits * given.dense_move_pj_per_bit_per_hop * given.hops,
        )

    def mac(self, weight_bits: float) -> float:
        """E_mac(b_w) in pJ."""
        if weight_bits >= REAL_BITS:
            return self.constants.float32_mac_pj
        return self.constants.mac_pj + self.constants.mac_pj_per_bit * weight_bits

    def real_macs(self, macs: int, network: Network) -> Cost:
        """Dense, at 32 bits, at 8 in the 8-bit ANN."""
        bits = 8 if network is Network.ANN_INT8 else REAL_BITS
        return self._dense(bits, bits, 1.0) * macs

    def operations(self, real: int, integer: int) -> Cost:
        """Each reads two values and writes one in on-chip memory."""
        given = self.constants
        return Cost(
            compute=real * given.operation_pj + integer * given.accumulate_pj,
            activations=real * 3 * REAL_BITS * given.memory_pj_per_bit,
            state=integer * 3 * given.membrane_bits * given.memory_pj_per_bit,
        )
