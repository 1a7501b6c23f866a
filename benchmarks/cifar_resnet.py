"""The CIFAR ResNet of the original paper with 6n+2 layers, and its weights and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WEIGHTS = {20: "resnet20-*.th", 44: "resnet44-*.th"}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a parameter-free shortcut (option A).

    Where the size changes the shortcut takes every second pixel and pads the new channels with zeros,
    half before and half after the old ones.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.extra = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.extra == 0:
            return x
        before = self.extra // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


class CifarResNet(nn.Module):
    """Three stages of n blocks with 16, 32 and 64 channels, then the global mean and a linear layer."""

    def __init__(self, depth: int, num_classes: int = 10) -> None:
        """Builds the network with random weights.

        Args:
            depth: 6n + 2 layers, such as 20 or 44.
            num_classes: outputs of the linear layer.
        """
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n + 2 with n of at least 1, got {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of normalized images [N, 3, 32, 32]."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def load_cifar_resnet(folder: Path, depth: int) -> CifarResNet:
    """A trained network in evaluation mode.

    Args:
        folder: the folder of the weights.
        depth: 20 or 44.
    """
    (path,) = folder.glob(_WEIGHTS[depth])
    saved = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    network = CifarResNet(depth)
    network.load_state_dict({name.removeprefix("module."): value for name, value in saved.items()})
    return network.eval()


def load_cifar_images(folder: Path, part: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Normalized images float32 [N, 3, 32, 32] and labels int64 [N].

    Args:
        folder: the folder of ``train.npz`` and ``test.npz``.
        part: "train" or "test".
        count: how many of the first images; None for all.
    """
    with np.load(folder / f"{part}.npz", allow_pickle=False) as archive:
        pixels, labels = archive["x"][:count], archive["y"][:count]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
    return ((images - mean) / std).contiguous(), torch.from_numpy(labels.astype(np.int64))
