"""Convolutions and linear layers whose weights are b_w bits wide, and are trained so.

    w_q = α·clip(⌊w/α⌉, −q, q),  q = 2^(b_w − 1) − 1,    α = δ·√(mean w²);        b_w = 1:  w_q = sign(w)·mean|w|

δ is the step of least squared error for weights from N(0, 1), and mean|w| is the scale of least squared error at one
bit; one scale for a layer. Gradients pass straight through to w.

Source: Shen et al., "Are Conventional SNNs Really Efficient?" (CVPR 2024), whose symmetric grid this is; that the range
follows the weights' spread and not their maximum, which would leave two-bit weights mostly zero, is a reconstruction.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.neurons.code import check_range
from snnconvert.neurons.weight_integers import FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS
from snnconvert.training.direct.gradients import straight_through
from snnconvert.training.direct.steps import rectified_step


def quantized_weight(weight: Tensor, bits: int) -> Tensor:
    """w_q as given at the top of this module, with gradients passed straight through.

    Args:
        weight: w, float32, any shape.
        bits: b_w, 1..8.

    Returns:
        float32, same shape; the sign of 0 is +1 at one bit.
    """
    with torch.no_grad():
        if bits == 1:
            levels = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean()
        else:
            largest = 2 ** (bits - 1) - 1
            scale = rectified_step(bits - 1) * weight.square().mean().sqrt().clamp(min=torch.finfo(weight.dtype).tiny)
            levels = (weight / scale).round().clamp(-largest, largest) * scale
    return straight_through(weight, levels)


class QuantizedConv2d(nn.Conv2d):
    """A convolution with weights of b_w bits; its parameters are those of ``nn.Conv2d``, real numbers.

    Attributes:
        weight_bits: b_w.
    """

    def __init__(self, *args: Any, weight_bits: int, **fields: Any) -> None:
        """As ``nn.Conv2d``, and how wide weights are.

        Raises:
            ConfigurationError: if b_w isn't 1..8.
        """
        check_range(weight_bits, FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS, "weight_bits")
        super().__init__(*args, **fields)
        self.weight_bits = weight_bits

    def forward(self, input: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, H', W'], float32."""
        result: Tensor = self._conv_forward(input, quantized_weight(self.weight, self.weight_bits), self.bias)
        return result


class QuantizedLinear(nn.Linear):
    """A linear layer with weights of b_w bits; its parameters are those of ``nn.Linear``, real numbers.

    Attributes:
        weight_bits: b_w.
    """

    def __init__(self, *args: Any, weight_bits: int, **fields: Any) -> None:
        """As ``nn.Linear``, and how wide weights are.

        Raises:
            ConfigurationError: if b_w isn't 1..8.
        """
        check_range(weight_bits, FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS, "weight_bits")
        super().__init__(*args, **fields)
        self.weight_bits = weight_bits

    def forward(self, input: Tensor) -> Tensor:
        """[..., I] to [..., O], float32."""
        return F.linear(input, quantized_weight(self.weight, self.weight_bits), self.bias)
