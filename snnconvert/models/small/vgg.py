"""VGG with BatchNorm for images of 32 pixels or events.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks" (ICLR 2015), configuration D, with norms; after the
last pool one pixel is left of 32, so that the hidden linear layers have 8 times the first stage's width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.layers import activation, convolution, linear
from snnconvert.models.small.network import SmallNet

_VGG16 = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
_VGG8 = ((1, 1), (2, 2), (4, 4))
_WIDTH = 64


class Vgg(SmallNet):
    """Stages of 3×3 convolutions with a max-pool behind each, the global mean, and linear layers.

    Submodules:
        features: convolutions, norms, activations and pools in order.
        classifier: the linear layers, with norms and activations between them.
    """

    def __init__(self, config: SmallNetConfig, stages: Sequence[Sequence[int]], hidden: int) -> None:
        """Builds the network with random weights.

        Args:
            config: its form, bits and size.
            stages: channels of each convolution by stage, in multiples of ``config.width``.
            hidden: linear layers before the last.
        """
        super().__init__(config)
        width = config.width or _WIDTH
        features: list[nn.Module] = []
        channels = config.in_channels
        for stage in stages:
            for multiple in stage:
                features += [
                    convolution(config, channels, multiple * width, is_end=not features),
                    nn.BatchNorm2d(multiple * width),
                    activation(config),
                ]
                channels = multiple * width
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        classifier: list[nn.Module] = []
        for _ in range(hidden):
            classifier += [linear(config, channels, channels), nn.BatchNorm1d(channels), activation(config)]
        self.classifier = nn.Sequential(*classifier, linear(config, channels, config.classes, is_end=True))

    def first_current(self, rows: Tensor) -> Tensor:
        """First convolution and norm."""
        current: Tensor = self.features[:2](rows)
        return current

    def head(self, rows: Tensor) -> Tensor:
        """Everything behind them."""
        logits: Tensor = self.classifier(torch.flatten(self.pool(self.features[2:](rows)), 1))
        return logits


def vgg16(config: SmallNetConfig) -> Vgg:
    """VGG-16: 13 convolutions of 64 to 512 channels, three linear layers; at least 32 pixels.

    Args:
        config: its form, bits and size.
    """
    return Vgg(config, _VGG16, hidden=2)


def vgg8(config: SmallNetConfig) -> Vgg:
    """VGG-16's first three stages with two convolutions each, and one hidden linear layer; at least 8 pixels.

    Args:
        config: its form, bits and size.
    """
    return Vgg(config, _VGG8, hidden=1)
