"""ESPNet on CamVid: street scenes, 11 classes for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import snnconvert
from benchmarks.real_data import require_data
from benchmarks.trained.espnet import ESPNet
from benchmarks.trained.photographs import batches_of, read_pixels
from benchmarks.trained.result import Result

_CLASSES = 11
_CHECKPOINT = "decoder_espnet_p_2_q_8_camvid.pth"
_MEAN, _STD = (110.33, 108.41, 105.03), (72.13, 72.69, 69.90)  # of blue, green and red
_CALIBRATION_BATCH = 2


def measure(images: int | None = None) -> Result:
    """Mean IoU of both networks on test images; calibrated on the training images.

    Args:
        images: how many to evaluate on at most, evenly spread.
    """
    folder = require_data("camvid")
    ann = load_espnet(folder)
    training, test = (sorted((folder / part).iterdir()) for part in ("train", "test"))
    test = test[:: max(1, len(test) // (images or len(test)))][:images]
    snn: Any = snnconvert.convert(ann, batches_of(map(read_input, training), _CALIBRATION_BATCH), progress=False)
    counts = [torch.zeros(_CLASSES, _CLASSES + 1, dtype=torch.int64) for _ in range(2)]
    same = 0.0
    for path in test:
        image, mask = read_input(path)[None], read_mask(folder / "testannot" / f"{path.stem}.png")
        ann_classes, snn_classes = decide(ann, image), decide(snn, image)
        counts = [counts[0] + confusion(ann_classes, mask), counts[1] + confusion(snn_classes, mask)]
        same += float((ann_classes == snn_classes).double().mean())
    return Result(
        "ESPNet, CamVid",
        "mIoU",
        mean_iou(counts[0]),
        mean_iou(counts[1]),
        len(test),
        f"{len(training)} training images",
        snn.report,
        {"pixel_agreement": same / len(test)},
    )


def load_espnet(folder: Path) -> ESPNet:
    """The trained network in evaluation mode.

    Args:
        folder: the folder of the weights.
    """
    network = ESPNet()
    network.load_state_dict(torch.load(folder / _CHECKPOINT, weights_only=True, map_location="cpu"))
    return network.eval()


def read_input(path: Path) -> Tensor:
    """An image as the network takes it: [3, 360, 480], blue first, normalized and then divided by 255."""
    mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
    return (read_pixels(path).flip(0) - mean) / std / 255


def read_mask(path: Path) -> Tensor:
    """The class of every pixel, int64 [H, W]; the first that is no class is void."""
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image).astype(np.int64))


def decide(network: nn.Module, image: Tensor) -> Tensor:
    """The class of every pixel [H, W] of one image [1, 3, H, W]; void is a class of the network's, too."""
    with torch.no_grad():
        return torch.as_tensor(network(image).argmax(1)[0])


def confusion(decided: Tensor, mask: Tensor) -> Tensor:
    """Pixels by true and by decided class, without those that are void in truth."""
    known = mask < _CLASSES
    pairs = mask[known] * (_CLASSES + 1) + decided[known]
    return torch.bincount(pairs, minlength=_CLASSES * (_CLASSES + 1)).view(_CLASSES, _CLASSES + 1)


def mean_iou(counts: Tensor) -> float:
    """Intersection over union, the mean over the classes that occur in truth."""
    right = counts.diagonal()
    union = counts.sum(1) + counts.sum(0)[:_CLASSES] - right
    return float((right / union)[counts.sum(1) > 0].mean())
