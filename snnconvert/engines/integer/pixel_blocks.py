"""Pixel blocks: a convolution with a stride s reads s × s pixels of few channels as one pixel of s² times as many.

Σ over K × K pixels in steps of s = Σ over n × n blocks in steps of one, the kernel filled up with zeros at its edges.
onnxruntime collects what a kernel sees channels by channels, and takes about twice as long over three bytes a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, fx

from snnconvert.convert.signature import Signature
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.synapse import ConvGeometry, Synapse

_FEW_CHANNELS = 4


@dataclass(frozen=True)
class PixelBlocks:
    """How a convolution's kernel and its padding are laid out in blocks.

    Attributes:
        side: s, pixels of a block in each direction.
        lead: zeros in front of the kernel, by direction.
        count: n, blocks that the kernel spans, by direction.
        pads: blocks of zeros around the image: above, left, below, right.
        size: of the output.
    """

    side: int
    lead: tuple[int, int]
    count: tuple[int, int]
    pads: tuple[int, int, int, int]
    size: tuple[int, int]

    def kernel(self, weight: Tensor) -> Tensor:
        """A kernel [O, C, K, K] as [O, s²·C, n, n], the blocks' rows first, then columns, then channels."""
        outputs, channels, height, width = weight.shape
        (top, left), (rows, columns), side = self.lead, self.count, self.side
        filled = F.pad(weight, (left, columns * side - left - width, top, rows * side - top - height))
        split = filled.view(outputs, channels, rows, side, columns, side)
        return split.permute(0, 3, 5, 1, 2, 4).reshape(outputs, side * side * channels, rows, columns).contiguous()

    def pixels(self, blocks: Tensor) -> Tensor:
        """Blocks [N, s²·C, H, W] as pixels [N, C, s·H, s·W]."""
        batch, wide, height, width = blocks.shape
        split = blocks.reshape(batch, self.side, self.side, wide // self.side**2, height, width)
        return split.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * self.side, width * self.side)


def pixel_blocks(network: fx.GraphModule, signature: Signature) -> dict[fx.Node, PixelBlocks]:
    """The convolutions of a network's own images that can read blocks, by their node.

    Args:
        network: the packed spiking graph.
        signature: how it is called.
    """
    images = [node for node in network.graph.nodes if node.op == "placeholder"]
    found: dict[fx.Node, PixelBlocks] = {}
    for image, spec in zip(images, signature.tensors, strict=True):
        for neuron in filter(partial(_fires_plainly, network), image.users):
            (reader,) = neuron.users
            blocks = _blocks_of(network, reader, spec.shape) if spec.batched else None
            if blocks is not None:
                found[reader] = blocks
    return found


def _fires_plainly(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is packed neurons that one node reads."""
    if node.op != "call_module" or len(node.users) != 1:
        return False
    neuron = network.get_submodule(str(node.target))
    return isinstance(neuron, SpikingNeuron) and isinstance(neuron.code, PackedCode)


def _blocks_of(network: fx.GraphModule, node: fx.Node, shape: Sequence[int | None]) -> PixelBlocks | None:
    """The blocks of a node that reads images [C, H, W]; None if it has none."""
    synapse = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(synapse, Synapse) or synapse.geometry is None or len(shape) != 3:
        return None
    if synapse.weight.dim() != 4 or synapse.weight.shape[1] > _FEW_CHANNELS:
        return None
    return blocks_for(synapse.weight.shape[2:], synapse.geometry, shape[1:])


def blocks_for(kernel: Sequence[int], geometry: ConvGeometry, image: Sequence[int | None]) -> PixelBlocks | None:
    """The blocks of a two-dimensional convolution.

    Args:
        kernel: its height and width.
        geometry: its strides and so on.
        image: height and width; None: any.

    Returns:
        None if it has no stride, one for each direction, groups or gaps, or blocks don't fill the image.
    """
    side = geometry.stride[0]
    is_plain = not geometry.transposed and geometry.groups == 1 and set(geometry.dilation) == {1}
    if side == 1 or set(geometry.stride) != {side} or not is_plain:
        return None
    rows, columns = (_along(*each, side) for each in zip(image, kernel, geometry.padding, strict=True))
    if rows is None or columns is None:
        return None
    pads = (rows.before, columns.before, rows.behind, columns.behind)
    return PixelBlocks(side, (rows.lead, columns.lead), (rows.count, columns.count), pads, (rows.size, columns.size))


@dataclass(frozen=True)
class _Along:
    lead: int
    count: int
    before: int
    behind: int
    size: int


def _along(pixels: int | None, kernel: int, padding: int, side: int) -> _Along | None:
    """The blocks in one direction; None if they don't fill the image."""
    if pixels is None or pixels % side:
        return None
    lead = -padding % side
    count = -(-(kernel + lead) // side)
    size = (pixels + 2 * padding - kernel) // side + 1
    before = (padding + lead) // side
    behind = size + count - 1 - before - pixels // side
    return _Along(lead, count, before, behind, size) if behind >= 0 else None
