"""ResNet-18 and SEW-ResNets with a 3×3 stem, for images of 32 pixels or events.

Source: He et al., "Deep Residual Learning" (CVPR 2016); SEW: Fang et al., "Deep Residual Learning in Spiking Neural
Networks" (NeurIPS 2021), whose connection function here is ADD.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.layers import activation, convolution, linear
from snnconvert.models.small.network import SmallNet

_WIDTH = 64


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; the activation comes after the sum: relu(bn2(conv2(relu(bn1(conv1 x)))) + shortcut(x))."""

    def __init__(self, config: SmallNetConfig, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(config, inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = activation(config)
        self.conv2 = convolution(config, outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = activation(config)
        self.downsample = self._shortcut(config, inputs, outputs, stride)

    def _shortcut(self, config: SmallNetConfig, inputs: int, outputs: int, stride: int) -> nn.Module:
        if stride == 1 and inputs == outputs:
            return nn.Identity()
        return nn.Sequential(convolution(config, inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs, H, W] to [R, outputs, H / stride, W / stride]."""
        branch = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(branch + self.downsample(x))
        return out


class SewBlock(BasicBlock):
    """The activation comes before the sum, relu(bn2(...)) + shortcut(x), so that the shortcut carries spikes.

    The sum counts up to one spike more than the block reads: it needs no neurons, and isn't clipped.
    """

    def _shortcut(self, config: SmallNetConfig, inputs: int, outputs: int, stride: int) -> nn.Module:
        plain = super()._shortcut(config, inputs, outputs, stride)
        return nn.Sequential(*plain, activation(config)) if isinstance(plain, nn.Sequential) else plain

    def forward(self, x: Tensor) -> Tensor:
        """[R, inputs, H, W] to [R, outputs, H / stride, W / stride]."""
        branch = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(branch) + self.downsample(x)
        return out


class ResNet(SmallNet):
    """A 3×3 convolution, four stages of blocks, the global mean and a linear layer; named as in torchvision."""

    def __init__(self, config: SmallNetConfig, blocks: Sequence[int], block: type[BasicBlock]) -> None:
        """Builds the network with random weights.

        Args:
            config: its form, bits and size.
            blocks: blocks of the four stages.
            block: their kind.
        """
        super().__init__(config)
        width = config.width or _WIDTH
        self.conv1 = convolution(config, config.in_channels, width, is_end=True)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = activation(config)
        one, two, three, four = blocks
        self.layer1 = _stage(config, block, width, width, one, 1)
        self.layer2 = _stage(config, block, width, 2 * width, two, 2)
        self.layer3 = _stage(config, block, 2 * width, 4 * width, three, 2)
        self.layer4 = _stage(config, block, 4 * width, 8 * width, four, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = linear(config, 8 * width, config.classes, is_end=True)

    def first_current(self, rows: Tensor) -> Tensor:
        """First convolution and norm."""
        current: Tensor = self.bn1(self.conv1(rows))
        return current

    def head(self, rows: Tensor) -> Tensor:
        """Everything behind them."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.relu(rows)))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(features), 1))
        return logits


def _stage(
    config: SmallNetConfig, block: type[BasicBlock], inputs: int, outputs: int, count: int, stride: int
) -> nn.Sequential:
    first = block(config, inputs, outputs, stride)
    return nn.Sequential(first, *(block(config, outputs, outputs, 1) for _ in range(count - 1)))


def resnet18(config: SmallNetConfig) -> ResNet:
    """ResNet-18, 64 to 512 channels, projections where the size changes.

    Args:
        config: its form, bits and size.
    """
    return ResNet(config, (2, 2, 2, 2), BasicBlock)


def sew_resnet18(config: SmallNetConfig) -> ResNet:
    """SEW-ResNet-18 with ADD.

    Args:
        config: its form, bits and size.
    """
    return ResNet(config, (2, 2, 2, 2), SewBlock)


def sew_resnet34(config: SmallNetConfig) -> ResNet:
    """SEW-ResNet-34 with ADD.

    Args:
        config: its form, bits and size.
    """
    return ResNet(config, (3, 4, 6, 3), SewBlock)
