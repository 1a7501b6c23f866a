"""What commands on a saved network share: the network, and images prepared the way it was converted with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from snnconvert.artifact.hybrid_store import is_hybrid, load_parts
from snnconvert.data.images import ImageSets, digits_images, open_images, sample_photographs
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.errors import InputError
from snnconvert.models.source import DIGITS
from snnconvert.spiking_model import SpikingModel, load
from snnconvert.tasks.evaluation import CLASSIFICATION

PHOTOGRAPH_CROPS = 128


def add_saved_network(parser: argparse.ArgumentParser, images: int | None, option: str = "--images") -> None:
    """The options every command on a saved network has.

    Args:
        parser: the command's parser.
        images: default number of images; None: all, of photographs 128.
        option: what their number is called.
    """
    default = "all; of photographs 128" if images is None else images
    parser.add_argument("network", type=Path, help="folder of a converted network")
    parser.add_argument("--data", type=Path, metavar="DIR|NPZ", help="images, as for a conversion")
    parser.add_argument(
        option,
        "--eval-images",
        dest="images",
        type=int,
        default=images,
        metavar="N",
        help=f"images to run (default {default})",
    )
    parser.add_argument(
        "--calib-images", type=int, metavar="N",
        help="images that were kept for calibration (default: as many as calibrated)",
    )  # fmt: skip
    parser.set_defaults(images_option=option)
    parser.add_argument("-b", "--batch-size", type=int, default=32, metavar="N", help="images a batch")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of images (default %(default)s)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no table and no progress bar: only the last line")


def load_network(options: argparse.Namespace) -> SpikingModel:
    """The saved network.

    Raises:
        InputError: if a number is out of its range, or the folder holds parts of a network.
        ArtifactError: if the folder holds no network.
    """
    check_counts(options)
    if is_hybrid(options.network):
        folders = ", ".join(f"{folder} ({name})" for name, folder in load_parts(options.network).folders.items())
        raise InputError(
            f"{options.network} holds parts of a network, with torch code between them that isn't saved: this command "
            f"takes whole spiking networks; give a part's folder ({folders}), or use HybridModel.load from Python"
        )
    return load(options.network)


def check_counts(options: argparse.Namespace) -> None:
    """Refuses numbers of images below one.

    Raises:
        InputError: naming the option.
    """
    counts = {
        options.images_option: options.images,
        "--batch-size": options.batch_size,
        "--calib-images": options.calib_images,
    }
    for option, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"{option} must be at least 1, got {value}")


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
    if snn.signature.one_input is None:
        names = ", ".join(spec.name for spec in snn.signature.tensors)
        raise InputError(f"{options.network} takes {names}: this command gives images alone, run it from Python")
    preprocessing = Preprocessing.from_description(snn.report.preprocessing)
    calibration_images = options.calib_images or max(snn.report.calibration_images, 1)
    if options.data is not None and snn.report.task != CLASSIFICATION:
        raise InputError(
            f"{options.network} is for {snn.report.task}, and --data takes images of classes here: leave it out, or "
            "measure it from Python with snnconvert.evaluate"
        )
    if options.data is not None:
        return open_images(
            options.data,
            preprocessing,
            num_classes=_classes(snn),
            calibration_images=calibration_images,
            evaluation_images=options.images,
            seed=options.seed,
        )
    if snn.report.model == DIGITS:
        return digits_images(
            preprocessing,
            calibration_images=calibration_images,
            evaluation_images=options.images,
            seed=options.seed,
        )
    return sample_photographs(
        preprocessing,
        calibration_images=calibration_images,
        evaluation_images=options.images or PHOTOGRAPH_CROPS,
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
