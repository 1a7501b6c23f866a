"""Networks with random weights whose activations are those of a trained one in size, and random images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.cifar_resnet import cifar_resnet

CIFAR_RESNET20 = "cifar_resnet20"
_SETTLING_BATCHES = 3
_SETTLING_IMAGES = 16


class RandomImages:
    """Batches of normally distributed images, made when asked for; the same ones every time."""

    def __init__(self, count: int, batch_size: int, side: int, seed: int = 0) -> None:
        """Describes the images.

        Args:
            count: number of images.
            batch_size: images in a batch; the last one may be smaller.
            side: height and width.
            seed: of the random numbers.
        """
        self.count, self.batch_size, self.side, self.seed = count, batch_size, side, seed

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches [N, 3, side, side]."""
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, self.count, self.batch_size):
            size = min(self.batch_size, self.count - start)
            yield torch.randn(size, 3, self.side, self.side, generator=generator)


def build_network(name: str, seed: int = 0) -> nn.Module:
    """A network in evaluation mode with random weights and settled BatchNorm statistics.

    Args:
        name: timm's name, torchvision's of what timm doesn't have, or ``cifar_resnet20``.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    if name == CIFAR_RESNET20:
        network: nn.Module = cifar_resnet(20)
    else:
        network = _from_library(name)
    _settle(network, RandomImages(_SETTLING_BATCHES * _SETTLING_IMAGES, _SETTLING_IMAGES, side_of(name), 1))
    return network.eval()


def _from_library(name: str) -> nn.Module:
    import timm
    from torchvision.models import get_model

    network: nn.Module = timm.create_model(name) if timm.is_model(name) else get_model(name, weights=None)
    return network


def side_of(name: str) -> int:
    """Height and width of a network's input."""
    return 32 if name == CIFAR_RESNET20 else 224


def _settle(network: nn.Module, batches: RandomImages) -> None:
    """Sets BatchNorm statistics from a few batches, and scales of zero, which silence a branch, to one."""
    norms = [module for module in network.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
        if not norm.weight.any():
            nn.init.ones_(norm.weight)
    if norms:
        with torch.no_grad():
            for batch in batches:
                network(batch)
