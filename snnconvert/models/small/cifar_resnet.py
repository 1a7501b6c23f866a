"""The CIFAR ResNet of the original paper with 6n + 2 layers.

Source: He et al., "Deep Residual Learning" (CVPR 2016), section 4.2, shortcuts of option A. Names are those of
akamaster/pytorch_resnet_cifar10, whose checkpoints fit the ANN of width 16.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.errors import ConfigurationError
from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.layers import activation, convolution, linear
from snnconvert.models.small.network import SmallNet

_WIDTH = 16


class CifarBlock(nn.Module):
    """Two 3×3 convolutions with a parameter-free shortcut (option A).

    Where the size changes the shortcut takes every second pixel and pads the new channels with zeros,
    half before and half after the old ones.
    """

    def __init__(self, config: SmallNetConfig, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(config, inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = activation(config)
        self.conv2 = convolution(config, outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = activation(config)
        self.stride = stride
        self.extra = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs, H, W] to [R, outputs, H / stride, W / stride]."""
        inner = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(inner)) + self._shortcut(x))
        return out

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.extra == 0:
            return x
        before = self.extra // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


class CifarResNet(SmallNet):
    """Three stages of n blocks with 16, 32 and 64 channels, then the global mean and a linear layer."""

    def __init__(self, config: SmallNetConfig, depth: int) -> None:
        """Builds the network with random weights.

        Args:
            config: its form, bits and size.
            depth: 6n + 2 layers, such as 20 or 44.

        Raises:
            ConfigurationError: on other depths.
        """
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ConfigurationError(f"depth must be 6n + 2 with n of at least 1, got {depth}")
        super().__init__(config)
        width = config.width or _WIDTH
        self.conv1 = convolution(config, config.in_channels, width, is_end=True)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = activation(config)
        self.layer1 = _stage(config, width, width, blocks, stride=1)
        self.layer2 = _stage(config, width, 2 * width, blocks, stride=2)
        self.layer3 = _stage(config, 2 * width, 4 * width, blocks, stride=2)
        self.linear = linear(config, 4 * width, config.classes, is_end=True)

    def first_current(self, rows: Tensor) -> Tensor:
        """First convolution and norm."""
        current: Tensor = self.bn1(self.conv1(rows))
        return current

    def head(self, rows: Tensor) -> Tensor:
        """Everything behind them."""
        features = self.layer3(self.layer2(self.layer1(self.relu(rows))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


def _stage(config: SmallNetConfig, inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = CifarBlock(config, inputs, outputs, stride)
    return nn.Sequential(first, *(CifarBlock(config, outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet20(config: SmallNetConfig) -> CifarResNet:
    """The CIFAR ResNet with 20 layers.

    Args:
        config: its form, bits and size.
    """
    return CifarResNet(config, 20)


def resnet44(config: SmallNetConfig) -> CifarResNet:
    """The CIFAR ResNet with 44 layers.

    Args:
        config: its form, bits and size.
    """
    return CifarResNet(config, 44)
