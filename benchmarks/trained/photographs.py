"""Photographs as input tensors, and what networks make of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from snnconvert.report.statistics import decibels

_FOLDS = 4


def read_pixels(path: Path) -> Tensor:
    """Pixels of an image file, float32 [3, H, W] in RGB, 0..255."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float()


def resized(pixels: Tensor, height: int, width: int) -> Tensor:
    """The image at another size, bilinear between the nearest pixels, as OpenCV does it."""
    return F.interpolate(pixels[None], (height, width), mode="bilinear", align_corners=False)[0]


def batches_of(inputs: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Batches of at most so many samples."""
    held: list[Tensor] = []
    for sample in inputs:
        held.append(sample)
        if len(held) == size:
            yield torch.stack(held)
            held = []
    if held:
        yield torch.stack(held)


def coco_images(folder: Path) -> list[Path]:
    """The labelled images of COCO.

    Args:
        folder: the folder that holds ``coco/images``.
    """
    return sorted((folder / "coco" / "images").glob("*.jpg"))


def coco_folds(folder: Path, count: int | None) -> list[tuple[list[Path], list[Path]]]:
    """Four splits of the images into a quarter to evaluate on, at most so many, and the others to calibrate on.

    Every image is evaluated once, by a network that hasn't seen it: cross-validation, as there are few.

    Args:
        folder: the folder that holds ``coco/images``.
        count: how many of a quarter to evaluate on.
    """
    paths = coco_images(folder)
    quarters = [paths[start::_FOLDS] for start in range(_FOLDS)]
    return [(quarter[:count], [path for path in paths if path not in quarter]) for quarter in quarters]


def outputs_of(network: nn.Module, batches: Iterable[Tensor]) -> list[Tensor]:
    """Every output of a network for all batches."""
    found: list[Sequence[Tensor]] = []
    with torch.no_grad():
        for batch in batches:
            output = network(batch)
            found.append([output] if isinstance(output, Tensor) else list(output.values()))
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def sqnr_db(reference: Tensor, output: Tensor) -> float | None:
    """Signal to noise in decibels; None if either is nothing."""
    signal, noise = reference.double().square().sum(), (reference - output).double().square().sum()
    return decibels(float(signal), float(noise))
