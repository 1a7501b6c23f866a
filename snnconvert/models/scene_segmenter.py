"""A small encoder-decoder for the segmentation of the scenes, in the manner of LinkNet (Chaurasia et al., 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from snnconvert.data.scenes import SCENE_CLASSES
from snnconvert.models.digits import BasicBlock
from snnconvert.models.scene_detector import conv_block


class UpBlock(nn.Module):
    """A coarser level, brought to the size of a finer one and added to it.

    Args:
        coarse_channels: Channels of the coarser level.
        channels: Channels of the finer level, and of what comes out.
    """

    def __init__(self, coarse_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = conv_block(coarse_channels, channels, kernel=1)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.relu = nn.ReLU()
        self.conv = conv_block(channels, channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Computes conv(relu(upsample(reduce(coarse)) + fine)).

        Args:
            coarse: [N, coarse_channels, H / 2, W / 2].
            fine: [N, channels, H, W].

        Returns:
            [N, channels, H, W].
        """
        merged = self.relu(self.upsample(self.reduce(coarse)) + fine)
        out: Tensor = self.conv(merged)
        return out


class SceneSegmenter(nn.Module):
    """Residual blocks down to stride 16 and sums back up to stride 2; 200,000 parameters.

    Args:
        num_classes: Classes, the background among them.
    """

    def __init__(self, num_classes: int = len(SCENE_CLASSES)) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_block(3, 24, stride=2), conv_block(24, 24))
        self.down1 = BasicBlock(24, 32, stride=2)
        self.down2 = BasicBlock(32, 48, stride=2)
        self.down3 = BasicBlock(48, 80, stride=2)
        self.up3 = UpBlock(80, 48)
        self.up2 = UpBlock(48, 32)
        self.up1 = UpBlock(32, 24)
        self.classifier = nn.Conv2d(24, num_classes, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, images: Tensor) -> Tensor:
        """Classifies every pixel.

        Args:
            images: [N, 3, H, W] in 0..1, H and W multiples of 16.

        Returns:
            Logits [N, num_classes, H, W].
        """
        half = self.stem(images)
        quarter = self.down1(half)
        eighth = self.down2(quarter)
        features = self.up3(self.down3(eighth), eighth)
        features = self.up1(self.up2(features, quarter), half)
        logits: Tensor = self.upsample(self.classifier(features))
        return logits
