"""Spike bits against time steps at one budget, trained from scratch: ``python -m benchmarks.direct_images``.

The claim of Shen et al. (CVPR 2024), on a small network and 4,000 images of CIFAR-10: at a bit budget of 4, accuracy
falls from 1/4/1 over 1/2/2 to 1/1/4 (b_w/b_s/T).
"""

from __future__ import annotations

import argparse

import torch.nn.functional as F
from torch import Tensor

from benchmarks.cifar_resnet import load_cifar_images
from benchmarks.direct import Examples, Experiment, add_options, emit_rows, rows_of, without_examples
from benchmarks.real_data import emit, emit_json, require_data
from snnconvert.models.small.cifar_resnet import resnet20
from snnconvert.models.small.vgg import vgg8
from snnconvert.training.direct.augment import flip_and_crop

_NETWORKS = {"vgg8": vgg8, "resnet20": resnet20}
_WHOLE = 32


def main(arguments: list[str] | None = None) -> None:
    """Trains and tests every setting."""
    options = _parser().parse_args(arguments)
    folder = require_data("cifar10")
    train, test = (_halved(load_cifar_images(folder, part), options.size) for part in ("train", "test"))
    examples = Examples(train, test)
    experiment = Experiment(_NETWORKS[options.network], lambda _: [examples], flip_and_crop(options.size // 8), 3)
    rows = rows_of(experiment, options)
    emit()
    emit_rows(rows)
    sizes = {"train": len(train[1]), "test": len(test[1])}
    emit_json({"benchmark": "direct_images", **_told(options), **sizes, "rows": without_examples(rows)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.direct_images", description=__doc__)
    parser.add_argument("--network", choices=sorted(_NETWORKS), default="vgg8")
    parser.add_argument("--size", type=int, choices=(16, _WHOLE), default=16, help="pixels; 16: means of 2×2")
    add_options(parser, settings=["1/4/1", "1/2/2", "1/1/4"], width=16, epochs=6, seeds=3)
    return parser


def _told(options: argparse.Namespace) -> dict[str, object]:
    return {name: getattr(options, name) for name in ("network", "size", "neuron", "width", "epochs", "seeds")}


def _halved(images_and_labels: tuple[Tensor, Tensor], size: int) -> tuple[Tensor, Tensor]:
    images, labels = images_and_labels
    return (images if size == _WHOLE else F.avg_pool2d(images, _WHOLE // size)), labels


if __name__ == "__main__":
    main()
