"""Torchvision's RetinaNet on the backbone of the small detector, for the scenes."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from snnconvert.data.scenes import SCENE_CLASSES, SCENE_SIZE
from snnconvert.models.scene_detector import SceneBackbone

_WIDTH = 40
_ANCHORS = ((14, 20, 28), (36, 48, 64))


class PyramidBackbone(nn.Module):
    """The two levels of :class:`SceneBackbone` by name, as torchvision's detectors take them."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = SceneBackbone(_WIDTH)
        self.out_channels = _WIDTH

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features of strides 8 and 16.

        Args:
            images: [N, 3, H, W], H and W multiples of 16.
        """
        fine, coarse = self.levels(images)
        return OrderedDict([("8", fine), ("16", coarse)])


def scene_retinanet() -> RetinaNet:
    """Builds the detector with random weights: 250,000 parameters, square anchors of six sizes on two levels.

    Returns:
        A detector of torchvision, in training mode; its labels are indices into ``SCENE_CLASSES``.
    """
    net = RetinaNet(
        PyramidBackbone(),
        num_classes=len(SCENE_CLASSES),
        min_size=SCENE_SIZE,
        max_size=2 * SCENE_SIZE,
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        anchor_generator=AnchorGenerator(_ANCHORS, ((1.0,),) * len(_ANCHORS)),
        detections_per_img=100,
        size_divisible=16,
    )
    _initialize(net.head)
    return net


def _initialize(head: nn.Module) -> None:
    """He's initial weights for the towers, whose own are for pretrained backbones and long training."""
    for name, module in head.named_modules():
        if isinstance(module, nn.Conv2d) and ".conv." in name:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(torch.as_tensor(module.bias))
