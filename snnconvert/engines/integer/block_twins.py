"""ONNX twins of a convolution that reads blocks of pixels (:mod:`snnconvert.engines.integer.pixel_blocks`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.engines.integer.pixel_blocks import PixelBlocks
from snnconvert.engines.integer.twins import IntegerSynapse, onnx_node_of
from snnconvert.neurons.synapse import ConvGeometry

_STEPS = ConvGeometry((1, 1), (0, 0), (1, 1), 1)


class ToBlocks(nn.Module):
    """Pixels [N, C, s·H, s·W] as blocks [N, s²·C, H, W], in float32, which every onnxruntime has a kernel for."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 blocks."""
        batch, channels, height, width = pixels.shape
        shape = (batch, channels * self.side**2, height // self.side, width // self.side)
        return onnx_node_of("SpaceToDepth", (pixels,), shape, torch.float32, blocksize=self.side)


class ToPixels(nn.Module):
    """Blocks as pixels, for those who look at words."""

    def __init__(self, blocks: PixelBlocks) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, words: Tensor) -> Tensor:
        """Bytes [N, C, s·H, s·W] of bytes [N, s²·C, H, W]."""
        return self.blocks.pixels(words)


class BlockSynapse(IntegerSynapse):
    """(W·z + b)·s of words in blocks."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: Tensor, blocks: PixelBlocks) -> None:
        """Stores the integers.

        Args:
            weight: int8 [O, C, K, K], of pixels.
            bias: int32 [O].
            scale: float32 [O] or scalar.
            blocks: how it is laid out.
        """
        super().__init__(blocks.kernel(weight), bias, scale, _STEPS, flat=False)
        self.blocks = blocks

    def convolved(self, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A convolution that pads its sides each on its own."""
        shape = (words.shape[0], len(self.bias), *self.blocks.size)
        pads = list(self.blocks.pads)
        return onnx_node_of("Conv", (words, weight, bias), shape, torch.float32, pads=pads, strides=[1, 1])
