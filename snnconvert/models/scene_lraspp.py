"""Torchvision's LR-ASPP on a narrow MobileNetV3 (Howard et al., ICCV 2019), for the scenes."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small
from torchvision.models.segmentation import LRASPP

from snnconvert.data.scenes import SCENE_CLASSES

_WIDTH = 0.5
_HEAD_CHANNELS = 64
_LOW = 3
_KEEPING_SIZE = (1, 9)


class LowAndHigh(nn.Module):
    """The two levels that LR-ASPP reads, of a row of blocks.

    Args:
        features: The blocks; the last one's output is the high level.
        low: Index of the block whose output is the low level.
    """

    def __init__(self, features: nn.Sequential, low: int) -> None:
        super().__init__()
        self.features = features
        self.low = low

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features by name, "low" and "high".

        Args:
            images: [N, 3, H, W].
        """
        levels = {}
        level = images
        for index, block in enumerate(self.features):
            level = block(level)
            if index == self.low:
                levels["low"] = level
        levels["high"] = level
        return levels


def scene_lraspp(num_classes: int = len(SCENE_CLASSES)) -> LRASPP:
    """Builds the segmenter with random weights: 150,000 parameters, features of strides 4 and 8.

    The backbone is MobileNetV3-Small at half its width with the reduced last stage of the paper's segmenters. Its
    first block and its last stage keep the size where the original halves it: the shapes of the scenes are small.

    Args:
        num_classes: Classes, the background among them.

    Returns:
        A segmenter of torchvision, in training mode: images [N, 3, H, W] in 0..1 to {"out": [N, num_classes, H, W]}.
    """
    features = mobilenet_v3_small(width_mult=_WIDTH, reduced_tail=True).features
    for index in _KEEPING_SIZE:
        _keep_size(features[index])
    low, high = features[_LOW].out_channels, features[-1].out_channels
    return LRASPP(LowAndHigh(features, _LOW), low, high, num_classes, _HEAD_CHANNELS)


def _keep_size(block: nn.Module) -> None:
    """Sets the strides of all convolutions in a block to 1."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
