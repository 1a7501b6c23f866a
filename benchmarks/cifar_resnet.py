"""Weights of the CIFAR ResNets, and images of CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnconvert.models.small.cifar_resnet import CifarResNet
from snnconvert.models.small.config import SmallNetConfig

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WEIGHTS = {20: "resnet20-*.th", 44: "resnet44-*.th"}


def cifar_resnet(depth: int) -> CifarResNet:
    """The ANN with random weights, its first stage 16 channels wide.

    Args:
        depth: 6n + 2 layers, such as 20 or 44.
    """
    return CifarResNet(SmallNetConfig("ann"), depth)


def load_cifar_resnet(folder: Path, depth: int) -> CifarResNet:
    """A trained network in evaluation mode.

    Args:
        folder: the folder of the weights.
        depth: 20 or 44.
    """
    (path,) = folder.glob(_WEIGHTS[depth])
    saved = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    network = cifar_resnet(depth)
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
