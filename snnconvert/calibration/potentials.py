"""Initial membrane potentials: each neuron's mean error over a sample, in the order of the layers.

A neuron fires z = quantize((v + β)·g) for a current v. With the ANN's potential a in the unit δ of that current,

    β ← β + rne(d),  d = E[a/δ − v] over images, where |d| exceeds twice its standard error

one number for each neuron [C, H, W], where a bias has one for each channel. After SNN-Calibration (Li et al., ICML
2021), whose neurons start at such potentials; keeping significant means only is this package's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from snnconvert.calibration.reconstruction.blocks import source_of
from snnconvert.calibration.statistics.means import significant_mean
from snnconvert.convert.insert import CURRENT, UNIT
from snnconvert.neurons.neuron import SpikingNeuron


class PotentialCorrector:
    """Gives neurons that read currents their initial potentials, in place.

    Args:
        network: the spiking graph; nodes that carry current have ``meta[CURRENT]``.
        sources: nodes of the ANN's graph by name.
        images: how many samples are compared, K.

    Attributes:
        corrected: how many neurons have one now.
    """

    def __init__(self, network: fx.GraphModule, sources: Mapping[str, fx.Node], images: int) -> None:
        self._network, self._sources, self._images = network, sources, images
        self.corrected = 0

    def reads(self, node: fx.Node) -> bool:
        """Whether neurons read the current of a node, each the same place of every image."""
        if not node.meta.get(CURRENT) or not self._neurons(node):
            return False
        batch, *others = self._sources[source_of(node)].meta["val"].shape
        return isinstance(batch, torch.SymInt) and not any(isinstance(size, torch.SymInt) for size in others)

    def correct(self, node: fx.Node, current: Tensor, expected: Tensor) -> None:
        """Corrects the neurons behind a node.

        Args:
            node: of the spiking graph.
            current: its integers, [K·W, ...]; what its W windows of an image lost is averaged.
            expected: what the ANN has there.
        """
        shift = neuron_shift(expected.double() / node.meta[UNIT].double() - current.double(), self._images)
        if bool(shift.any()):
            for neuron in self._neurons(node):
                before = 0.0 if neuron.bias is None else neuron.bias.double()
                neuron.bias = (before + shift).to(torch.float32)
                self.corrected += int(shift.count_nonzero())

    def _neurons(self, node: fx.Node) -> list[SpikingNeuron]:
        modules: list[nn.Module] = [
            self._network.get_submodule(str(user.target)) for user in node.users if user.op == "call_module"
        ]
        return [module for module in modules if isinstance(module, SpikingNeuron)]


def neuron_shift(differences: Tensor, images: int) -> Tensor:
    """Significant means [1, ...] of differences [K·W, ...] over K images, rounded to counts."""
    flat = differences.reshape(images, -1, differences[0].numel()).mean(1)
    return significant_mean(flat).round().view(1, *differences.shape[1:])
