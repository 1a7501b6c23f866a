"""Matrix products of int8 numbers with 32-bit sums in torch, where tensor cores compute them."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.engines.integer.proof import INT32_LARGEST, LARGEST_BYTE
from snnconvert.engines.integer.torch_lowering import ByteNetwork, Fired
from snnconvert.engines.stepwise import neuron_layers
from snnconvert.neurons.synapse import FLOAT32_EXACT, ConvGeometry, Synapse, accumulator_bound

_MULTIPLE = 8
_FEWEST_ROWS = 32
_IMAGE = 4


class IntegerMatrix(nn.Module):
    """I = (W·(z − c) + W·c + b)·m of words z − c in int8: a linear layer, or a convolution as a product of its windows.

    Buffers:
        weight: int8 [O', K'], W with zeros up to multiples of 8, which GPUs ask for.
        bias: int32 [O], W·c + b.
        multiplier: float [O], m, in the type of the current.
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor

    def __init__(self, synapse: Synapse) -> None:
        """Stores the integers of a synapse for which :func:`is_matrix` holds."""
        super().__init__()
        low, high = synapse.word_range
        self.shift = (low + high + 1) // 2
        self.geometry, self.kernel = synapse.geometry, tuple(synapse.weight.shape[2:])
        flat = synapse.weight.flatten(1)
        self.outputs = len(flat)
        exact = float(synapse.bound().max()) <= FLOAT32_EXACT and not synapse.wide
        padded = F.pad(flat, (0, -flat.shape[1] % _MULTIPLE, 0, -self.outputs % _MULTIPLE))
        self.register_buffer("weight", padded.contiguous())
        self.register_buffer("bias", synapse.bias + self.shift * flat.sum(1, dtype=torch.int32))
        self.register_buffer("multiplier", synapse.multiplier.to(torch.float32 if exact else torch.float64))

    def forward(self, words: Tensor) -> Tensor:
        """Integer current [N, O, H, W] or [..., O] of integer-valued words; float64 where it may pass 2^24."""
        shifted = (words - self.shift).to(torch.int8)
        if self.geometry is not None:
            shifted = self._windows(self.geometry, shifted)
        rows = shifted.reshape(-1, shifted.shape[-1])
        missing = max(_FEWEST_ROWS - len(rows), 0)
        padded = F.pad(rows, (0, self.weight.shape[1] - rows.shape[1], 0, missing))
        sums = torch._int_mm(padded, self.weight.t())[: len(rows), : self.outputs] + self.bias
        current = (sums * self.multiplier).reshape(*shifted.shape[:-1], self.outputs)
        return current if self.geometry is None else current.permute(0, 3, 1, 2)

    def _windows(self, g: ConvGeometry, shifted: Tensor) -> Tensor:
        """What each output of a convolution sees, [N, H, W, K]."""
        if any(g.padding):
            top, left = g.padding
            shifted = F.pad(shifted, (left, left, top, top), value=-self.shift)
        for dim, (size, step, spread) in enumerate(zip(self.kernel, g.stride, g.dilation, strict=True), start=2):
            shifted = shifted.unfold(dim, spread * (size - 1) + 1, step)[..., ::spread]
        return shifted.permute(0, 2, 3, 1, 4, 5).flatten(3)


def is_matrix(synapse: Synapse) -> bool:
    """Whether a synapse is one product of matrices whose sums fit 32 bits."""
    low, high = synapse.word_range
    largest = accumulator_bound(synapse.weight, synapse.bias, -2 * LARGEST_BYTE, 2 * LARGEST_BYTE).max()
    if high - low > LARGEST_BYTE or float(largest) > INT32_LARGEST:
        return False
    g = synapse.geometry
    return g is None or (synapse.weight.dim() == _IMAGE and g.groups == 1 and not g.transposed)


def with_integer_matrices(network: fx.GraphModule) -> ByteNetwork:
    """A copy of a packed network whose linear layers and plain convolutions are products of int8 matrices."""
    copied = as_packed(network)
    for name, module in list(copied.graph.named_modules()):
        if isinstance(module, Synapse) and is_matrix(module):
            setattr(copied.graph, name, IntegerMatrix(module))
    return copied


def as_packed(network: fx.GraphModule) -> ByteNetwork:
    """A copy of a packed network, as it is."""
    layers = neuron_layers(network).items()
    return ByteNetwork(copy.deepcopy(network), tuple(Fired(layer, name, name, 0) for name, (layer, _) in layers))
