"""ESPNet with its light decoder: spatial pyramids of dilated convolutions whose outputs add up hierarchically."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BN_EPS = 1e-3
_DILATIONS = (2, 4, 8, 16)
_IMAGE_CHANNELS = 3


class Convolution(nn.Module):
    """A convolution without bias that keeps the size at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = (kernel - 1) // 2 * dilation
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        result: Tensor = self.conv(x)
        return result


class NormalizedPReLU(nn.Module):
    """BatchNorm, then PReLU with one slope a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=_BN_EPS)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        result: Tensor = self.act(self.bn(x))
        return result


class ConvolutionPReLU(NormalizedPReLU):
    """A 3×3 convolution, BatchNorm and PReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(outputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return super().forward(self.conv(x))


class Pyramid(nn.Module):
    """Reduces the channels, convolves them at five dilations, and joins the running sums of the results."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        narrow = outputs // (len(_DILATIONS) + 1)
        self.c1 = Convolution(inputs, narrow, kernel, stride)
        self.d1 = Convolution(narrow, outputs - len(_DILATIONS) * narrow, 3)
        for dilation in _DILATIONS:
            setattr(self, f"d{dilation}", Convolution(narrow, narrow, 3, dilation=dilation))

    def pyramid(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        reduced = self.c1(x)
        joined, total = [self.d1(reduced)], None
        for dilation in _DILATIONS:
            wide = getattr(self, f"d{dilation}")(reduced)
            total = wide if total is None else total + wide
            joined.append(total)
        return torch.cat(joined, 1)


class DownPyramid(Pyramid):
    """A pyramid at half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel=3, stride=2)
        self.bn = nn.BatchNorm2d(outputs, eps=_BN_EPS)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / 2, W / 2]."""
        result: Tensor = self.act(self.bn(self.pyramid(x)))
        return result


class PyramidBlock(Pyramid):
    """A pyramid of the same size, with its input added if it is as wide."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel=1, stride=1)
        self.bn = NormalizedPReLU(outputs)
        self.residual = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W]."""
        inner = self.pyramid(x)
        result: Tensor = self.bn(x + inner if self.residual else inner)
        return result


class Encoder(nn.Module):
    """Three levels at 1/2, 1/4 and 1/8 of the size; shrunken images are joined to the first two."""

    def __init__(self, classes: int, blocks2: int, blocks3: int) -> None:
        super().__init__()
        self.level1 = ConvolutionPReLU(_IMAGE_CHANNELS, 16, stride=2)
        self.shrink = nn.AvgPool2d(3, 2, 1)
        self.b1 = NormalizedPReLU(16 + _IMAGE_CHANNELS)
        self.level2_0 = DownPyramid(16 + _IMAGE_CHANNELS, 64)
        self.level2 = nn.Sequential(*(PyramidBlock(64, 64) for _ in range(blocks2)))
        self.b2 = NormalizedPReLU(128 + _IMAGE_CHANNELS)
        self.level3_0 = DownPyramid(128 + _IMAGE_CHANNELS, 128)
        self.level3 = nn.Sequential(*(PyramidBlock(128, 128) for _ in range(blocks3)))
        self.b3 = NormalizedPReLU(256)
        self.classifier = Convolution(256, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images [N, 3, H, W] to features at 1/2 and 1/4, and classes at 1/8 of the size."""
        half = self.shrink(x)
        level1 = self.b1(torch.cat([self.level1(x), half], 1))
        down = self.level2_0(level1)
        level2 = self.b2(torch.cat([self.level2(down), down, self.shrink(half)], 1))
        down = self.level3_0(level2)
        level3 = self.b3(torch.cat([down, self.level3(down)], 1))
        return level1, level2, self.classifier(level3)


class ESPNet(nn.Module):
    """The encoder, and three transposed convolutions that bring its classes back to the image's size."""

    def __init__(self, classes: int = 12, blocks2: int = 2, blocks3: int = 8) -> None:
        """Builds the network with random weights.

        Args:
            classes: channels of its output.
            blocks2: blocks at 1/4 of the size (p).
            blocks3: blocks at 1/8 of the size (q).
        """
        super().__init__()
        self.encoder = Encoder(classes, blocks2, blocks3)
        self.level3_C = Convolution(128 + _IMAGE_CHANNELS, classes, 1)
        self.br = nn.BatchNorm2d(classes, eps=_BN_EPS)
        self.up_l3 = nn.Sequential(_doubling(classes))
        self.combine_l2_l3 = nn.Sequential(NormalizedPReLU(2 * classes), PyramidBlock(2 * classes, classes))
        self.up_l2 = nn.Sequential(_doubling(classes), NormalizedPReLU(classes))
        self.conv = ConvolutionPReLU(16 + _IMAGE_CHANNELS + classes, classes)
        self.classifier = _doubling(classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classes [N, classes, H, W] of images [N, 3, H, W] whose sides are multiples of 8."""
        level1, level2, level3 = self.encoder(x)
        level3 = self.up_l3(self.br(level3))
        level2 = self.up_l2(self.combine_l2_l3(torch.cat([self.level3_C(level2), level3], 1)))
        result: Tensor = self.classifier(self.conv(torch.cat([level2, level1], 1)))
        return result


def _doubling(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
