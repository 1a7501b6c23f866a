"""What commands on a saved network share: the network, and images prepared the way it was converted with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from snnconvert.data.images import ImageSets, digits_images, open_images, sample_photographs
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.errors import InputError
from snnconvert.models.source import DIGITS
from snnconvert.spiking_model import SpikingModel, load


def add_saved_network(parser: argparse.ArgumentParser, images: int) -> None:
    """The options every command on a saved network has.

    Args:
        parser: the command's parser.
        images: default number of images.
    """
    parser.add_argument("network", type=Path, help="folder of a converted network")
    parser.add_argument("--data", type=Path, metavar="DIR|NPZ", help="images, as for a conversion")
    parser.add_argument("--images", type=int, default=images, metavar="N", help="images to run (default %(default)s)")
    parser.add_argument("-b", "--batch-size", type=int, default=32, metavar="N", help="images a batch")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of images (default %(default)s)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no table and no progress bar: only the last line")


def load_network(options: argparse.Namespace) -> SpikingModel:
    """The saved network.

    Raises:
        InputError: if a number is out of its range.
        ArtifactError: if the folder holds no network.
    """
    for name in ("images", "batch_size"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    return load(options.network)


def saved_images(snn: SpikingModel, options: argparse.Namespace) -> ImageSets:
    """Images the network was not calibrated on, prepared as its report says.

    Raises:
        InputError: if the network was converted without saying how its images are prepared, or the images
            can't be used.
    """
    if not snn.report.preprocessing:
        raise InputError(
            f"{options.network} doesn't say how its images are prepared (it was not converted by this command): "
            "run it from Python"
        )
    preprocessing = Preprocessing.from_description(snn.report.preprocessing)
    if options.data is not None:
        return open_images(
            options.data,
            preprocessing,
            num_classes=_classes(snn),
            calibration_images=snn.report.calibration_images,
            evaluation_images=options.images,
            seed=options.seed,
        )
    choose = digits_images if snn.report.model == DIGITS else sample_photographs
    return choose(
        preprocessing,
        calibration_images=snn.report.calibration_images,
        evaluation_images=options.images,
        seed=options.seed,
    )


def image_batches(images: ImageSets, options: argparse.Namespace, what: str) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Batches of images, with labels if there are any, behind a progress bar."""
    loader = DataLoader(images.evaluation, batch_size=options.batch_size)
    for inputs, labels in tqdm(loader, desc=what, unit="batch", disable=True if options.quiet else None):
        yield inputs, labels if images.labelled else None


def _classes(snn: SpikingModel) -> int:
    with torch.no_grad():
        shape = [size for size in snn.input_shape if size is not None]
        return int(snn(torch.zeros(1, *shape)).shape[-1])
