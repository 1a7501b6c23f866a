"""ESPNet on CamVid: street scenes, 11 classes for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.real_data import require_data
from benchmarks.trained.espnet import ESPNet
from benchmarks.trained.photographs import batches_of, read_pixels
from benchmarks.trained.task import Figures, Task, bootstrapped

_CLASSES = 11
_CHECKPOINT = "decoder_espnet_p_2_q_8_camvid.pth"
_MEAN, _STD = (110.33, 108.41, 105.03), (72.13, 72.69, 69.90)  # of blue, green and red
_CALIBRATION_BATCH = 2


def task(images: int | None = None) -> Task:
    """Mean IoU on test images; calibrated on the training images.

    Args:
        images: how many to evaluate on at most, evenly spread.
    """
    folder = require_data("camvid")
    ann = load_espnet(folder)
    training, test = (sorted((folder / part).iterdir()) for part in ("train", "test"))
    test = test[:: max(1, len(test) // (images or len(test)))][:images]
    return Task(
        "ESPNet, CamVid",
        "mIoU",
        ann,
        [lambda: batches_of(map(read_input, training), _CALIBRATION_BATCH)],
        f"{len(training)} training images",
        partial(_intersections, ann, folder, test),
    )


def _intersections(ann: nn.Module, folder: Path, test: list[Path], snns: Sequence[nn.Module]) -> Figures:
    (snn,) = snns
    confusions, same = _confusions((ann, snn), folder, test)
    ann_iou, snn_iou = (partial(resampled_iou, of_network) for of_network in confusions)
    return bootstrapped(ann_iou, snn_iou, len(test), {"pixel_agreement": same})


def _confusions(networks: tuple[nn.Module, nn.Module], folder: Path, test: list[Path]) -> tuple[list[Tensor], float]:
    """The confusions [N, classes, classes + 1] of both networks, and the share of pixels they agree on."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    same = 0.0
    for path in test:
        image, mask = read_input(path)[None], read_mask(folder / "testannot" / f"{path.stem}.png")
        decided = [decide(network, image) for network in networks]
        for confusions, classes in zip(found, decided, strict=True):
            confusions.append(confusion(classes, mask))
        same += float((decided[0] == decided[1]).double().mean())
    return [torch.stack(confusions) for confusions in found], same / len(test)


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


def resampled_iou(confusions: Tensor, counts: Tensor) -> Tensor:
    """Mean IoU of images that count several times each.

    Args:
        confusions: of each image, int64 [N, classes, classes + 1]; see :func:`confusion`.
        counts: how often each counts, float64 [R, N].

    Returns:
        float64 [R].
    """
    return mean_iou(torch.einsum("rn,nij->rij", counts, confusions.double()))


def mean_iou(confusions: Tensor) -> Tensor:
    """Intersection over union, the mean over the classes that occur in truth: [..., classes, classes + 1] to [...]."""
    right = confusions.diagonal(dim1=-2, dim2=-1)
    pixels = confusions.sum(-1)
    union = pixels + confusions.sum(-2)[..., :_CLASSES] - right
    return torch.where(pixels > 0, right / union, torch.nan).nanmean(-1)
