"""Weights as the synapses will have them: integers at each width times their scales, in the ANN's units."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx

from snnconvert.calibration.weights.gptq import Moments, MomentSums, rounded
from snnconvert.calibration.weights.patches import patches_in_parts
from snnconvert.convert.currents import folded_parameters, steps_of_inputs
from snnconvert.convert.insert import geometry_of
from snnconvert.convert.ops import TRANSPOSED, groups_of, input_channel_axis
from snnconvert.convert.units import FloatArray
from snnconvert.convert.weights import natural_scale, quantize
from snnconvert.neurons.synapse import outputs_first
from snnconvert.neurons.weight_integers import widths_of

_LARGEST_INPUTS = 5000


class FakeWeights:
    """Quantized weights of one synapse at several widths, kept as integers and scales.

    Args:
        graph_module: the canonical graph.
        node: the synapse.
        steps: Δ of the words it reads, in about the width they will have: one for all or one for each input channel.
        inputs: float values it reads on a sample, if weights are rounded by their second moments (gptq).
        shifts: what neurons subtract from each input channel, if anything.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        node: fx.Node,
        steps: FloatArray,
        inputs: Tensor | None,
        shifts: FloatArray | None = None,
    ) -> None:
        self._node = node
        self._weight, self._bias = folded_parameters(graph_module, node, steps, shifts)
        self._steps = steps_of_inputs(node, self._weight, steps)
        geometry = geometry_of(node)
        usable = inputs is not None and node.target not in TRANSPOSED and self._weight[0].numel() <= _LARGEST_INPUTS
        self._groups = 1 if geometry is None else geometry.groups
        self._moments = self._moments_of(self._counted(inputs, steps)) if usable and inputs is not None else None
        self._integers: dict[int, tuple[Tensor, Tensor]] = {}

    def prepare(self, widths: Iterable[int]) -> None:
        """Rounds at each width, and forgets the moments."""
        for bits in widths:
            self._integers[bits] = self._rounded(bits)
        self._moments = None

    def at(self, bits: int) -> Tensor:
        """The weights at a width, real numbers in the node's own layout; nearest integers if it wasn't prepared."""
        if bits not in self._integers:
            self._integers[bits] = self._rounded(bits)
        integers, scale = self._integers[bits]
        real = (integers.double() * scale.view(-1, *[1] * (integers.dim() - 1)) / self._steps.double()).float()
        return outputs_first(real, groups_of(self._node)) if self._node.target in TRANSPOSED else real

    def _rounded(self, bits: int) -> tuple[Tensor, Tensor]:
        scale = natural_scale(self._weight, self._bias, bits)
        integers = quantize(self._weight, scale, bits)
        if self._moments is None:
            return integers, scale
        positive = torch.where(scale > 0, scale, torch.ones_like(scale))
        counts = self._weight.double().reshape(len(scale), -1) / positive[:, None]
        counts = counts.view(self._groups, -1, counts.shape[1])
        chosen = rounded(counts, self._moments, widths_of(bits, self._weight).view(counts.shape[:2]))
        return chosen.view(self._weight.shape).to(torch.int8), scale

    def _counted(self, inputs: Tensor, steps: FloatArray) -> Tensor:
        """Inputs in steps, unrounded."""
        axis = input_channel_axis(self._node, inputs.dim())
        sizes = [-1 if dim == axis else 1 for dim in range(inputs.dim())]
        return inputs / torch.as_tensor(steps).to(inputs).view(sizes)

    def _moments_of(self, words: Tensor) -> Moments:
        """C of the words, with K = 0: the layers before are taken to lose nothing."""
        inputs, outputs = self._weight[0].numel(), self._weight.shape[0] // self._groups
        sums = MomentSums(self._groups, inputs, outputs, words.device)
        for _, x in patches_in_parts(words, self._weight.shape, geometry_of(self._node)):
            sums.update(x, x.new_zeros(self._groups, outputs, x.shape[-1]))
        return sums.moments()
