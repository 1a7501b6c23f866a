"""What every model of energy answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.workload import LayerWork


class EnergyModel(ABC):
    """A documented set of formulas: the cost of a layer for one image in each of the five networks.

    Attributes:
        name: as the report and the command line spell it.
        title: in words.
        unit: of its costs.
        source: the paper, and whether the formulas are printed there or reconstructed.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str] = "pJ"
    source: ClassVar[str]

    @abstractmethod
    def spiking_layer(self, work: LayerWork, network: Network) -> Cost:
        """The cost for one image of a layer that reads spikes in the spiking network."""

    @abstractmethod
    def real_macs(self, macs: int, network: Network) -> Cost:
        """The cost of multiply-accumulates that stay analog in the spiking network: of ``macs`` of them."""

    @abstractmethod
    def operations(self, real: int, integer: int) -> Cost:
        """The cost of element-wise operations on real numbers, and of additions of integers."""

    def layer(self, work: LayerWork, network: Network) -> Cost:
        """The cost of any layer for one image."""
        if work.spiking:
            return self.spiking_layer(work, network)
        return self.real_macs(work.macs * (work.T if network.is_spiking else 1), network)
