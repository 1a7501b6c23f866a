"""Modules of a spiking graph on bytes: words as unsigned bytes k = z + o between synapses, torch's own kernels.

The packed network's integers, in a quarter of its memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.engines.integer.torch_kernels import PackedWeights, Requantization, multiply, multiply_onto
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.transfer import TableTransfer


class ByteSynapse(nn.Module):
    """s·W(k − o) + β of bytes k, as bytes that a neuron fires, or as currents.

    Buffers:
        multiplier: float64 broadcastable to the currents, or None: what they are multiplied by after the kernel.
    """

    multiplier: Tensor | None

    def __init__(
        self,
        weights: PackedWeights,
        to: Requantization | None,
        *,
        wide: bool = False,
        multiplier: Tensor | None = None,
    ) -> None:
        """Stores the weights.

        Args:
            weights: packed.
            to: how neurons fire; None: return currents, float32.
            wide: return currents as float64.
            multiplier: float64; currents are float64, too.
        """
        super().__init__()
        self.weights, self.to_bytes, self.wide = weights, to, wide
        self.register_buffer("multiplier", multiplier)

    def forward(self, words: Tensor) -> Tensor:
        """Bytes or currents [N, O, ...] of bytes [N, I, ...]."""
        found = multiply(_in_order(words), self.weights, self.to_bytes)
        if self.multiplier is not None:
            return found.double().mul_(self.multiplier)
        return found.double() if self.wide else found


class ByteSum(nn.Module):
    """s·W(k − o) + β + a·(t − p) of bytes k and bytes or currents t, as bytes that a neuron fires, or as currents.

    Attributes:
        copies: whether t is still needed afterwards; otherwise the result takes its place.
    """

    def __init__(
        self,
        weights: PackedWeights,
        to: Requantization | None,
        scale: float = 1.0,
        zero_point: int = 0,
        top: int = LARGEST_BYTE,
    ) -> None:
        """Stores the weights.

        Args:
            weights: packed, of a convolution.
            to: how neurons fire; None: currents, float32.
            scale: a.
            zero_point: p.
            top: the largest byte fired.
        """
        super().__init__()
        self.weights, self.to_bytes, self.scale, self.zero_point, self.top = weights, to, scale, zero_point, top
        self.copies = True

    def forward(self, words: Tensor, total: Tensor) -> Tensor:
        """Bytes or currents [N, O, H, W] of bytes [N, I, H, W] and what is added, of the result's shape and type."""
        ordered = _in_order(total)
        if self.copies and ordered is total:
            ordered = total.clone()
        found = multiply_onto(ordered, _in_order(words), self.weights, self.to_bytes, self.scale, self.zero_point)
        return found.clamp_(max=self.top) if self.to_bytes is not None and self.top < LARGEST_BYTE else found


class FireBytes(nn.Module):
    """k = clip(rne((v + β)·g) + o): a packed neuron that writes bytes.

    Attributes:
        overwrites: whether nobody else reads the potential.
    """

    def __init__(self, neuron: SpikingNeuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.overwrites = False

    def forward(self, potential: Tensor) -> Tensor:
        """Bytes of the potential's shape."""
        code = self.neuron.code
        words = code.quantize_(self._in_steps(potential), self.neuron.ceiling)
        return (words.add_(code.offset) if code.offset else words).to(torch.uint8)

    def _in_steps(self, potential: Tensor) -> Tensor:
        if not self.overwrites or potential.dtype != torch.float32:
            return self.neuron.window_in_steps(potential)
        driven = potential if self.neuron.bias is None else potential.add_(self.neuron.bias)
        return driven.mul_(self.neuron.gain)


class TableBytes(nn.Module):
    """k = table[clip(rne(g·v)) − k₀]: neurons that fire on a tabulated function of their potential.

    Buffers:
        table: bytes [K], what they fire at each grid point.
    """

    table: Tensor

    def __init__(self, transfer: TableTransfer, neuron: SpikingNeuron) -> None:
        super().__init__()
        self.transfer = transfer
        self.register_buffer("table", (neuron(transfer.table) + neuron.code.offset).to(torch.uint8))

    def forward(self, potential: Tensor) -> Tensor:
        """Bytes of the potential's shape."""
        return self.transfer.looked_up(self.table, potential)


class ReadBytes(nn.Module):
    """z = k − o: words as the float32 integers that the packed network knows."""

    def __init__(self, zero_point: int) -> None:
        super().__init__()
        self.zero_point = zero_point

    def forward(self, fired: Tensor) -> Tensor:
        """float32 of the bytes' shape."""
        words = fired.to(torch.float32)
        return words.sub_(self.zero_point) if self.zero_point else words


class WriteBytes(nn.Module):
    """k = z + o of words z known as float32 integers."""

    def __init__(self, zero_point: int) -> None:
        super().__init__()
        self.zero_point = zero_point

    def forward(self, words: Tensor) -> Tensor:
        """Bytes of the words' shape."""
        return (words + self.zero_point if self.zero_point else words).to(torch.uint8)


class PoolBytes(nn.Module):
    """Largest bytes of windows over the last two of four dimensions."""

    def __init__(self, windows: tuple[tuple[int, int], ...], *, ceil_mode: bool) -> None:
        """Stores the windows: their size, stride, padding and dilation."""
        super().__init__()
        self.windows, self.ceil_mode = windows, ceil_mode

    def forward(self, fired: Tensor) -> Tensor:
        """Bytes [N, C, H', W']; torch's own operator has no kernel for bytes with channels last."""
        kernel, stride, padding, dilation = self.windows
        pooled: Tensor = torch.ops.quantized.max_pool2d(
            _in_order(fired), kernel, stride, padding, dilation, self.ceil_mode
        )
        return pooled


def _in_order(values: Tensor) -> Tensor:
    """In the memory order the kernels read: channels last for images."""
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values.contiguous()
