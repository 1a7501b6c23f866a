"""A small anchor-free detector for the scenes, in the manner of FCOS (Tian et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.data.scenes import SCENE_CLASSES
from snnconvert.models.digits import BasicBlock
from snnconvert.models.scene_decode import Predictions, decode

_RARE_LOGIT = -4.6  # of 1 %: most locations show nothing


def conv_block(in_channels: int, out_channels: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        stride: Of the convolution.
        kernel: Its side; odd.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class SceneBackbone(nn.Module):
    """Residual blocks of strides 4 to 16; the last level is added to the one before it.

    Args:
        width: Channels of the two levels that come out.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = conv_block(3, 24, stride=2)
        self.block1 = BasicBlock(24, 32, stride=2)
        self.block2 = BasicBlock(32, 48, stride=2)
        self.block3 = BasicBlock(48, 64, stride=2)
        self.lateral = nn.Sequential(nn.Conv2d(48, width, 1, bias=False), nn.BatchNorm2d(width))
        self.top = conv_block(64, width, kernel=1)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.relu = nn.ReLU()
        self.out_channels = width

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Computes relu(lateral(c8) + upsample(top(c16))), and top(c16) for the coarser level.

        Spikes, not sums of currents, are what the upsampling repeats: there is a ReLU in front of it.

        Args:
            images: [N, 3, H, W] in 0..1, H and W multiples of 16.

        Returns:
            [N, width, H / 8, W / 8] and [N, width, H / 16, W / 16].
        """
        fine = self.block2(self.block1(self.stem(images)))
        coarse = self.top(self.block3(fine))
        return self.relu(self.lateral(fine) + self.upsample(coarse)), coarse


class SceneDetectorNetwork(nn.Module):
    """What of the detector is a neural network: class, box and centre heads at stride 8; 190,000 parameters.

    Args:
        num_classes: Classes without the background.
    """

    def __init__(self, num_classes: int = len(SCENE_CLASSES) - 1) -> None:
        super().__init__()
        self.backbone = SceneBackbone()
        width = self.backbone.out_channels
        self.neck = conv_block(width, width)
        self.class_tower = conv_block(width, width)
        self.box_tower = conv_block(width, width)
        self.class_head = nn.Conv2d(width, num_classes, 3, padding=1)
        self.box_head = nn.Conv2d(width, 4, 3, padding=1)
        self.centre_head = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.constant_(torch.as_tensor(self.class_head.bias), _RARE_LOGIT)

    def forward(self, images: Tensor) -> Predictions:
        """Predicts for every location of stride 8.

        Args:
            images: [N, 3, H, W] in 0..1, H and W multiples of 16.

        Returns:
            What :func:`snnconvert.models.scene_decode.decode` takes.
        """
        features = self.neck(self.backbone(images)[0])
        boxes = self.box_tower(features)
        return self.class_head(self.class_tower(features)), self.box_head(boxes), self.centre_head(boxes)


class SceneDetector(nn.Module):
    """The network and what makes boxes of its outputs; it is called like torchvision's detectors.

    Attributes:
        network: The part to convert: ``snnconvert.convert(detector.network, images)`` gives a network that
            ``SceneDetector(snn)`` makes boxes of.

    Args:
        network: A :class:`SceneDetectorNetwork`, or anything that is called like it; None for a new one.
    """

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = SceneDetectorNetwork() if network is None else network

    def forward(self, images: Tensor | Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detects the shapes in images.

        Args:
            images: [N, 3, H, W] in 0..1, or N images [3, H, W] of one size; sides that aren't multiples of 16
                are filled up with zeros at the right and the bottom.

        Returns:
            For each image "boxes" [K, 4] as (x1, y1, x2, y2) in pixels, "labels" int64 [K], "scores" [K], the best
            first.
        """
        batch = images if isinstance(images, Tensor) else torch.stack(list(images))
        height, width = batch.shape[-2:]
        padded = F.pad(batch, (0, -width % 16, 0, -height % 16))
        return decode(self.network(padded), (height, width))
