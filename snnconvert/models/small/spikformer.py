"""A transformer after Spikformer: attention without softmax, between spikes.

    y = act( (q·kᵀ)·v · 1/8 ),    q, k, v = act(bn(W x))

Source: Zhou et al., "Spikformer: When Spiking Neural Network Meets Transformer" (ICLR 2023). Linear layers of tokens
are written as 1×1 convolutions of maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconvert.errors import ConfigurationError
from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.layers import activation, convolution, linear
from snnconvert.models.small.network import SmallNet

_WIDTH = 384
_SCALE = 0.125
_EXPANSION = 4
_STAGES = 4


class Unit(nn.Module):
    """A convolution, its norm, and an activation."""

    def __init__(
        self, config: SmallNetConfig, inputs: int, outputs: int, kernel: int = 1, *, is_end: bool = False
    ) -> None:
        super().__init__()
        self.conv = convolution(config, inputs, outputs, kernel, is_end=is_end)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = activation(config)

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs, H, W] to [R, outputs, H, W]."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class SpikingAttention(nn.Module):
    """Spiking self-attention of maps: no softmax, since products of spikes aren't negative."""

    def __init__(self, config: SmallNetConfig, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = Unit(config, width, width)
        self.k = Unit(config, width, width)
        self.v = Unit(config, width, width)
        self.act = activation(config)
        self.proj = Unit(config, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[R, C, H, W] to the same."""
        q, k, v = (self._tokens(unit(x)) for unit in (self.q, self.k, self.v))
        mixed = torch.matmul(torch.matmul(q, k.transpose(-2, -1)), v) * _SCALE
        maps = torch.unflatten(mixed.transpose(-2, -1).flatten(1, 2), 2, x.shape[2:])
        out: Tensor = self.proj(self.act(maps))
        return out

    def _tokens(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 1, (self.heads, -1)).flatten(3).transpose(-2, -1)


class Block(nn.Module):
    """Attention and a perceptron, each added to what comes in."""

    def __init__(self, config: SmallNetConfig, width: int, heads: int) -> None:
        super().__init__()
        self.attn = SpikingAttention(config, width, heads)
        self.mlp = nn.Sequential(Unit(config, width, _EXPANSION * width), Unit(config, _EXPANSION * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[R, C, H, W] to the same."""
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class Spikformer(SmallNet):
    """Four convolutions that split patches, one for positions, blocks of attention, the mean, and a linear layer."""

    def __init__(self, config: SmallNetConfig, depth: int = 4, heads: int = 12, pools: int = 2) -> None:
        """Builds the network with random weights.

        Args:
            config: its form, bits and size; the width a multiple of 8 and of ``heads``.
            depth: blocks.
            heads: of attention.
            pools: how many of the four convolutions, the last ones, halve the size: 2 for 32 pixels, 4 for 128.

        Raises:
            ConfigurationError: if width, heads or pools don't fit.
        """
        super().__init__(config)
        width = config.width or _WIDTH
        if width % 8 or width % heads:
            raise ConfigurationError(f"width must be a multiple of 8 and of heads = {heads}, got {width}")
        if not 0 <= pools <= _STAGES or depth < 1:
            raise ConfigurationError(f"pools must be 0..{_STAGES} and depth at least 1, got {pools} and {depth}")
        self.conv1 = convolution(config, config.in_channels, width // 8, 3, is_end=True)
        self.bn1 = nn.BatchNorm2d(width // 8)
        patches: list[nn.Module] = [activation(config)]
        for stage, channels in enumerate((width // 8, width // 4, width // 2, width)):
            if stage:
                patches.append(Unit(config, channels // 2, channels, 3))
            if stage >= _STAGES - pools:
                patches.append(nn.MaxPool2d(2))
        self.patches = nn.Sequential(*patches)
        self.position = Unit(config, width, width, 3)
        self.blocks = nn.Sequential(*(Block(config, width, heads) for _ in range(depth)))
        self.fc = linear(config, width, config.classes, is_end=True)

    def first_current(self, rows: Tensor) -> Tensor:
        """First convolution and norm."""
        current: Tensor = self.bn1(self.conv1(rows))
        return current

    def head(self, rows: Tensor) -> Tensor:
        """Everything behind them."""
        x = self.patches(rows)
        x = self.blocks(x + self.position(x))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def spikformer(config: SmallNetConfig, depth: int = 4, heads: int = 12, pools: int = 2) -> Spikformer:
    """Spikformer-4-384 for 32 pixels, or another size of it; see :class:`Spikformer`."""
    return Spikformer(config, depth, heads, pools)
