"""The options of training, and the settings they stand for."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from snnconvert.errors import ConfigurationError
from snnconvert.trainable.surrogate import SURROGATES
from snnconvert.training.config import AUGMENTATIONS, GRADIENTS, MATCHINGS, OPTIMIZERS, PRECISIONS, FinetuneConfig
from snnconvert.training.learned_bits.config import LearnedBitsConfig

_DEFAULTS, _WIDTHS = FinetuneConfig(), LearnedBitsConfig()
_HELP = {
    "epochs": ("N", "passes over the training images"),
    "train_batch_size": ("N", "images of one optimizer step, over all processes"),
    "accumulate": ("N", "parts a batch is taken in, one after the other: less memory"),
    "learning_rate": ("X", "largest learning rate of weights and biases"),
    "scale_rate": ("X", "learning rate of thresholds and weight steps, over that of weights"),
    "warmup": ("X", "share of the steps in which the learning rate rises"),
    "weight_decay": ("X", "of weights"),
    "clip": ("X", "largest norm of all gradients; 0: any"),
    "distillation": ("X", "share of the loss that is divergence from the ANN's outputs, 0..1"),
    "temperature": ("X", "of the outputs that are compared"),
    "block_distillation": ("X", "weight of the distance between both networks' blocks"),
    "ema": ("X", "decay of the moving average of parameters that is kept in the end; 0: the last ones"),
    "mixup": ("X", "alpha of the part of another image that is mixed into each; 1 suits few images, 0: none"),
    "activation_penalty": ("X", "weight of the sum of spikes in the loss"),
    "gram_penalty": ("X", "weight of the Gram matrices of weights in the loss"),
    "target_sparsity": ("X", "share of zeros to reach, by adapting the activation penalty, 0..1"),
    "truncation": ("N", "steps after which gradients through time stop; 0: none"),
    "surrogate_alpha": ("X", "steepness of the surrogate"),
    "checkpoint_steps": ("N", "steps between checkpoints; 0: one after each epoch"),
}
_CHOICES = {
    "optimizer": OPTIMIZERS, "precision": PRECISIONS, "augmentation": AUGMENTATIONS, "gradients": GRADIENTS,
    "surrogate": SURROGATES, "matching": MATCHINGS,
}  # fmt: skip
_RENAMED = {"train_batch_size": "batch_size"}


def add_training(group: argparse._ArgumentGroup) -> None:
    """How the network is trained."""
    for option, (metavar, text) in _HELP.items():
        default = getattr(_DEFAULTS, _RENAMED.get(option, option))
        kind = int if metavar == "N" else float
        shown = "" if default is None else " (default %(default)s)"
        group.add_argument(_flag(option), type=kind, default=default, metavar=metavar, help=text + shown)
    for option, choices in _CHOICES.items():
        group.add_argument(
            _flag(option), choices=choices, default=getattr(_DEFAULTS, option), help="(default %(default)s)"
        )


def add_learned_bits(group: argparse._ArgumentGroup) -> None:
    """Widths that are learned with the weights."""
    group.add_argument(
        "--learn-bits", action="store_true",
        help="learn weight bits, spike bits and time steps of each inner layer, from those of the conversion on, "
        "towards mean widths",
    )  # fmt: skip
    for name, what in (("weight-bits", "weight bits"), ("spike-bits", "spike bits"), ("T", "time steps")):
        default = getattr(_WIDTHS, f"target_{name.replace('-', '_')}")
        group.add_argument(
            f"--target-{name}", type=float, metavar="X", help=f"mean {what} to reach (default {default:g})"
        )


def widths_from(options: argparse.Namespace) -> LearnedBitsConfig | None:
    """The validated settings of learned widths; None if none are learned.

    Raises:
        ConfigurationError: on a value out of its range, or a target without ``--learn-bits``.
    """
    names = ("target_weight_bits", "target_spike_bits", "target_T")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.learn_bits:
        return LearnedBitsConfig(**given)
    if given:
        flag = _flag(next(iter(given)))
        raise ConfigurationError(f"{flag} is a target of learned widths: add --learn-bits, or leave it out")
    return None


def add_course(group: argparse._ArgumentGroup) -> None:
    """Where training keeps what it has reached."""
    group.add_argument(
        "--run", type=Path, metavar="DIR",
        help="folder of checkpoints and logs (default: the output folder's name with -training)",
    )  # fmt: skip
    group.add_argument(
        "--resume", action="store_true",
        help="go on from the last checkpoint of that folder, with the same settings; the number of processes may "
        "differ",
    )  # fmt: skip
    group.add_argument("--validate", action="store_true", help="evaluate after each epoch; the log says what")
    group.add_argument("--tensorboard", action="store_true", help="log for TensorBoard, too, beside log.csv")


def training_from(options: argparse.Namespace) -> FinetuneConfig:
    """The validated settings of parsed options.

    Raises:
        ConfigurationError: on a value out of its range.
    """
    names = {field.name for field in dataclasses.fields(FinetuneConfig)}
    values = {_RENAMED.get(name, name): value for name, value in vars(options).items() if name != "batch_size"}
    return FinetuneConfig(**{name: value for name, value in values.items() if name in names})


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
