"""Products of two activations: attention, gates and computed kernels, as a synapse whose weights are words.

I = (a ∘ b)·m for integer words a and b and a bilinear operation ∘. In time every new spike of one side meets
what the other side's spikes have added up to so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.neurons.synapse import FLOAT32_EXACT, ConvGeometry

_CONVOLUTIONS: dict[str, Callable[..., Tensor]] = {"conv1d": F.conv1d, "conv2d": F.conv2d, "conv3d": F.conv3d}
_OPERATIONS: dict[str, Callable[..., Tensor]] = {"mul": torch.mul, "matmul": torch.matmul, **_CONVOLUTIONS}
OPERATIONS = frozenset(_OPERATIONS)


class Product(nn.Module):
    """I = (a ∘ b)·m: an elementwise product, a matrix product, or a convolution with kernels b.

    Attributes:
        bound: proven bound of |I| whatever the words.
        largest_words: the magnitudes of a and b the proof assumes.
        most_terms: the number of terms in one sum it assumes.

    Buffers:
        multiplier: float64 integer scalar or broadcastable to the output, m.
        unit: float64 scalar, Δ_a·Δ_b: the ANN value of one count of a ∘ b.
        largest: int64 [3], the largest |a|, the largest |b| and the number of terms in one sum.
    """

    multiplier: Tensor
    unit: Tensor
    largest: Tensor

    def __init__(
        self,
        operation: str,
        unit: float | Tensor,
        multiplier: Tensor,
        largest: tuple[int, int, int],
        *,
        geometry: ConvGeometry | None = None,
        wide: bool = False,
    ) -> None:
        """Stores the operation and the proof.

        Args:
            operation: one of OPERATIONS.
            unit: Δ_a·Δ_b.
            multiplier: m.
            largest: magnitudes of the operands, and the number of terms added up.
            geometry: of a convolution.
            wide: return float64, because later sums of this current may pass 2^24.
        """
        super().__init__()
        self.operation, self.geometry, self.wide = operation, geometry, wide
        self.register_buffer("multiplier", multiplier.to(torch.float64))
        self.register_buffer("unit", torch.as_tensor(unit, dtype=torch.float64))
        self.register_buffer("largest", torch.tensor(largest))
        self._read_proof()
        self.register_load_state_dict_post_hook(lambda module, _: module._read_proof())  # type: ignore[no-untyped-call]

    def _read_proof(self) -> None:
        left, right, self.most_terms = self.largest.tolist()
        self.largest_words = left, right
        self.bound = int(left * right * self.most_terms * float(self.multiplier.abs().max()))
        self._is_scaled = bool((self.multiplier != 1).any())

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Integer current of integer-valued words; float64 where it or later sums may pass 2^24."""
        if self.wide or self.bound > FLOAT32_EXACT:
            left, right = left.double(), right.double()
        current = self.bilinear(left, right)
        return current * self.multiplier.to(current.dtype) if self._is_scaled else current

    def bilinear(self, left: Tensor, right: Tensor) -> Tensor:
        """The operation alone, in the operands' type."""
        function: Any = _OPERATIONS[self.operation]
        if self.geometry is None:
            result: Tensor = function(left, right)
            return result
        g = self.geometry
        convolved: Tensor = function(left, right, None, g.stride, g.padding, g.dilation, g.groups)
        return convolved

    def terms(self, left: Tensor, right: Tensor) -> int:
        """How many products one element of the result adds up."""
        if self.geometry is not None:
            return math.prod(right.shape[1:])
        return left.shape[-1] if self.operation == "matmul" else 1

    def extra_repr(self) -> str:
        """Operation for printing."""
        return self.operation if self.geometry is None else f"{self.operation}, {self.geometry}"
