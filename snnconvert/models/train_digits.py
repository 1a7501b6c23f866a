"""Trains the embedded digits network: `python -m snnconvert.models.train_digits --out FILE`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from snnconvert.data.digits import digits_preprocessing, digits_split, load_digits_arrays
from snnconvert.models.digits import DigitsNet
from snnconvert.models.reproducible import reproducible


@dataclass(frozen=True)
class DigitsTraining:
    """How the digits network is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        label_smoothing: Of the cross entropy.
        max_rotation: Degrees either way.
        max_scale: Relative change of size either way.
        max_shift: Pixels either way.
        seed: Of the initial weights, the order of images and the augmentation.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    max_rotation: float = 10.0
    max_scale: float = 0.1
    max_shift: float = 0.75
    seed: int = 0


@dataclass(frozen=True)
class DigitsTensors:
    """The digits as normalized tensors.

    Attributes:
        train_images: float32 [1257, 1, 8, 8].
        train_labels: int64 [1257].
        test_images: float32 [540, 1, 8, 8].
        test_labels: int64 [540].
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def digits_tensors() -> DigitsTensors:
    """Loads training and held-out digits.

    Returns:
        Both parts, normalized as the network expects.
    """
    pixels, targets = load_digits_arrays()
    images = digits_preprocessing().normalize(torch.from_numpy(pixels)[:, None])
    labels = torch.from_numpy(targets)
    training, held_out = (torch.tensor(part) for part in digits_split(targets))
    return DigitsTensors(images[training], labels[training], images[held_out], labels[held_out])


def train_digits(settings: DigitsTraining, tensors: DigitsTensors) -> DigitsNet:
    """Trains a network; same settings, same machine, same weights.

    Progress goes to stderr.

    Args:
        settings: How to train.
        tensors: The images; only the training part is used.

    Returns:
        The trained network in evaluation mode.
    """
    with reproducible(settings.seed):
        network = DigitsNet()
        steps = math.ceil(len(tensors.train_images) / settings.batch_size) * settings.epochs
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
        loss_function = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        for _ in tqdm(range(settings.epochs), desc="training digits", file=sys.stderr):
            for batch in torch.split(torch.randperm(len(tensors.train_images)), settings.batch_size):
                images = _augment(tensors.train_images[batch], settings)
                loss = loss_function(network(images), tensors.train_labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def count_correct(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Counts the images a network classifies correctly.

    Args:
        network: In evaluation mode.
        images: [N, 1, 8, 8].
        labels: int64 [N].

    Returns:
        A number in 0..N.
    """
    with torch.inference_mode():
        return int((network(images).argmax(1) == labels).sum())


def save_digits(network: DigitsNet, path: Path, *, settings: DigitsTraining, correct: int, held_out: int) -> None:
    """Writes the weights, and how they came about, to a safetensors file.

    Args:
        network: The trained network.
        path: The file to write.
        settings: How it was trained.
        correct: Held-out images classified correctly.
        held_out: Held-out images.
    """
    record = {
        "data": "scikit-learn handwritten digits",
        "command": "python -m snnconvert.models.train_digits",
        "settings": asdict(settings),
        "held_out_images": held_out,
        "held_out_correct": correct,
        "held_out_accuracy": round(correct / held_out, 4),
    }
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    path.write_bytes(safetensors.torch.save(tensors, metadata={"training": json.dumps(record, sort_keys=True)}))


def _augment(images: Tensor, settings: DigitsTraining) -> Tensor:
    count, _, height, _ = images.shape
    angle = (torch.rand(count) * 2 - 1) * math.radians(settings.max_rotation)
    scale = 1 + (torch.rand(count) * 2 - 1) * settings.max_scale
    # In the grid's coordinates the image is 2 wide.
    shift = (torch.rand(count, 2) * 2 - 1) * settings.max_shift * 2 / height
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def main(arguments: list[str] | None = None) -> None:
    """Trains with the default settings and writes the weights.

    Args:
        arguments: Command line; None for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m snnconvert.models.train_digits", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    out: Path = parser.parse_args(arguments).out
    settings, tensors = DigitsTraining(), digits_tensors()
    network = train_digits(settings, tensors)
    correct, held_out = (
        count_correct(network, tensors.test_images, tensors.test_labels),
        len(tensors.test_labels),
    )
    save_digits(network, out, settings=settings, correct=correct, held_out=held_out)
    sys.stderr.write(f"{correct} of {held_out} held-out digits correct ({correct / held_out:.2%}), saved to {out}\n")


if __name__ == "__main__":
    main()
