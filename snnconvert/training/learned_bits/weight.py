"""One synapse's weights and bias while their width is learned."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.currents import steps_of_inputs
from snnconvert.convert.graph_tools import constant_of
from snnconvert.convert.ops import TRANSPOSED, groups_of
from snnconvert.convert.units import FloatArray
from snnconvert.neurons.synapse import outputs_first
from snnconvert.training.learned_bits.quantizer import quantize, weight_levels
from snnconvert.training.learned_bits.renewal import searched_step
from snnconvert.training.learned_bits.width import Width

_TINY = 1e-12


class LearnedWeight(nn.Module):
    """Ŵ = α_o·clip(⌊W·r/α_o⌉, −q, q)/r with q = 2^(b_w − 1) − 1, a step α_o for each output channel.

    r are the steps of its input channels as shares of the largest; 1 where one step holds for all.

    Parameters:
        relative: W·r in root mean squares of its output channel, [O, ...]: the same learning rate suits all.
        bias: in the same times √(fan-in), [O].
        log_step: ln α_o, [O, 1, ...].
    """

    pattern: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, graph_module: fx.GraphModule, node: fx.Node, pattern: FloatArray, trials: int) -> None:
        """Starts from the ANN's weights.

        Args:
            graph_module: the canonical graph.
            node: the synapse.
            pattern: r, one for all or one for each input channel.
            trials: ranges tried where steps are searched.
        """
        super().__init__()
        weight = constant_of(graph_module, node.args[1])
        bias = constant_of(graph_module, node.args[2]) if len(node.args) > 2 else None
        assert weight is not None
        self._groups = groups_of(node) if node.target in TRANSPOSED else 0
        self._trials = trials
        weight = self._turned(weight.detach().float())
        ratio = steps_of_inputs(node, weight, pattern)
        folded = weight * ratio
        columns = (-1, *[1] * (weight.dim() - 1))
        scale = folded.flatten(1).square().mean(1).sqrt().clamp(min=_TINY).view(columns)
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().float()
        self.register_buffer("pattern", ratio.clone())
        self.register_buffer("scale", scale)
        self.register_buffer("fitted", torch.tensor(0))
        self._bias_scale = folded[0].numel() ** 0.5
        self.relative = nn.Parameter(folded / scale)
        self.bias = nn.Parameter(bias / (scale.flatten() * self._bias_scale))
        self.log_step = nn.Parameter(torch.zeros_like(scale))

    def _turned(self, weight: Tensor) -> Tensor:
        """Outputs first, or back."""
        return outputs_first(weight, self._groups) if self._groups else weight

    def fit(self, bits: int) -> None:
        """Searches the steps anew for a width."""
        folded: Tensor = (self.relative * self.scale).detach().flatten(1)
        step = searched_step(folded, weight_levels(bits), self._trials)
        with torch.no_grad():
            self.log_step.copy_(step.log().view_as(self.log_step))
            self.fitted.fill_(bits)

    def real_bias(self) -> Tensor:
        """The bias in the ANN's unit, [O]."""
        bias: Tensor = self.bias * (self.scale.flatten() * self._bias_scale)
        return bias

    def real_weight(self) -> Tensor:
        """W as it is trained, not quantized, in the node's own layout."""
        return self._turned(self.relative * self.scale / self.pattern)

    def step(self) -> Tensor:
        """α_o, [O]."""
        step: Tensor = self.log_step.detach().exp().flatten()
        return step

    def forward(self, width: Width) -> Tensor:
        """Ŵ in the node's own layout."""
        bits = width.rounded
        quantized = quantize(self.relative * self.scale, self.log_step.exp(), width(), weight_levels(bits))
        return self._turned(quantized / self.pattern)
