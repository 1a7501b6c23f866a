"""``snnconvert finetune MODEL``: convert a network, train what it was converted to, and say what that gained."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from snnconvert.artifact.atomic import check_target
from snnconvert.cli.arguments import add_conversion, add_machine, add_model, add_output, add_weights
from snnconvert.cli.config_file import ConfiguredParser
from snnconvert.cli.convert_command import (
    checked_target,
    completed,
    emit_json,
    evaluate,
    say,
    settled,
)
from snnconvert.cli.finetune_beginning import Beginning
from snnconvert.cli.process_group import Share, process_group
from snnconvert.cli.training_arguments import (
    add_course,
    add_learned_bits,
    add_training,
    training_from,
    widths_from,
)
from snnconvert.data.digits import DIGITS_TRAINING, digits_images
from snnconvert.data.images import ImageSets
from snnconvert.data.training import open_training
from snnconvert.energy.profile import DEFAULT_PROFILE, load_profile
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.models.source import DIGITS, LoadedModel, load_model
from snnconvert.report.hardware import on_hardware
from snnconvert.report.tables import report_table
from snnconvert.spiking_model import SpikingModel
from snnconvert.training.finetune import as_indexed, finetune
from snnconvert.training.learn_bits import bits_learner
from snnconvert.training.logs import Log, TensorBoardLog
from snnconvert.training.loop import Course

_TENSORBOARD = "tensorboard"


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert finetune``."""
    parser = ConfiguredParser(
        prog="snnconvert finetune",
        description="Convert a network and train what it was converted to: weights, their steps and thresholds.",
        epilog="The network learns to give what the ANN gives (--distillation) and what labels say. Checkpoints and "
        "log.csv lie in the folder of --run; with --resume the same command goes on from there. Under torchrun the "
        "processes train together. The last line on stdout is one JSON object. Exit code 2 means bad input: no "
        "network was written.",
    )
    add_model(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="options in a .toml file; those given come on top")
    add_conversion(parser.add_argument_group("conversion"))
    add_weights(parser.add_argument_group("weights"))
    parser.add_argument(
        "--from", dest="start", type=Path, metavar="DIR",
        help="train the converted network in this folder, not a new conversion",
    )  # fmt: skip
    _add_images(parser.add_argument_group("images"))
    add_training(parser.add_argument_group("training"))
    add_learned_bits(parser.add_argument_group("learned widths"))
    add_course(parser.add_argument_group("checkpoints and logs"))
    group = parser.add_argument_group("run and output")
    add_output(group)
    add_machine(group)
    group.add_argument("-q", "--quiet", action="store_true", help="no tables and no progress bar: only the last line")
    return parser


def run(options: argparse.Namespace) -> None:
    """Trains from parsed options; the processes of ``torchrun`` share the work.

    Raises:
        SnnConvertError: on anything the user has to change; no network is written then.
    """
    with process_group() as share:
        options.quiet = options.quiet or not share.is_first
        _run(options, share)


def _run(options: argparse.Namespace, share: Share) -> None:
    training, widths = training_from(options), widths_from(options)
    config, device = settled(options)
    if widths is not None and options.start is not None:
        raise ConfigurationError("--learn-bits begins with a conversion: leave out --from, or --learn-bits")
    hardware = load_profile(options.hardware)
    target = checked_target(options)
    folder = options.run if options.run is not None else target.with_name(f"{target.name}-training")
    _check_run(folder, options)
    loaded = load_model(
        options.model,
        checkpoint=options.checkpoint,
        random_weights=options.random_weights,
        num_classes=options.num_classes,
        image_size=options.image_size,
        seed=options.seed,
    )
    images = _images(options, loaded)
    ann = loaded.module.to(device)
    course = _course(options, share, folder, ann, images)
    beginning = Beginning(options, config, share, folder, ann, images)
    if widths is None:
        trained = finetune(beginning.network().to(device), images.calibration, training, teacher=ann, course=course)
    else:
        beginning.clear()
        learner = bits_learner(as_indexed(images.calibration), widths, training, ann, course)
        trained = beginning.converted(learner)
    share.wait()
    if not share.is_first:
        return
    evaluation = evaluate(ann, trained, images, options)
    trained.report = completed(trained.report, evaluation, images, loaded)
    if options.hardware != DEFAULT_PROFILE:
        trained.report = on_hardware(trained.report, hardware)
    trained.save(target, force=options.force)
    say(options, f"{report_table(trained.report)}\n\nwritten to {target}{os.sep}\n")
    emit_json(trained.report.summary())


def _add_images(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data", type=Path, metavar="DIR|NPZ",
        help="images to train on: DIR/train/<class>/... with DIR/val/<class>/... to evaluate on, or DIR/<class>/..., "
        "or an .npz of images and labels, of which a tenth is held out (for digits: its own images)",
    )  # fmt: skip
    group.add_argument("--eval-data", type=Path, metavar="DIR|NPZ", help="other images to evaluate on")
    group.add_argument("--train-images", type=int, metavar="N", help="images to train on (default: all)")
    group.add_argument("--eval-images", type=int, metavar="N", help="images to evaluate on (default: all)")
    group.add_argument(
        "--calib-images", type=int, default=512, metavar="N",
        help="training images that the conversion is calibrated on (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "-b", "--batch-size", type=int, default=32, metavar="N",
        help="images a batch of calibration and evaluation (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "-j", "--workers", type=int, default=0, metavar="N",
        help="processes that load images for calibration and evaluation (default %(default)s)",
    )  # fmt: skip
    group.set_defaults(dry_run=False)


def _images(options: argparse.Namespace, loaded: LoadedModel) -> ImageSets:
    """The images to train and to evaluate on."""
    if options.data is not None:
        return open_training(
            options.data,
            loaded.preprocessing,
            num_classes=loaded.num_classes,
            evaluation=options.eval_data,
            training_images=options.train_images,
            evaluation_images=options.eval_images,
            seed=options.seed,
        )
    if loaded.name != DIGITS:
        raise InputError(f"fine-tuning {loaded.name} needs images: give them with --data DIR or --data FILE.npz")
    return digits_images(
        loaded.preprocessing,
        calibration_images=options.train_images or DIGITS_TRAINING,
        evaluation_images=options.eval_images,
        seed=options.seed,
    )


def _check_run(folder: Path, options: argparse.Namespace) -> None:
    """Refuses a folder with another run's checkpoints, unless that run goes on or is replaced."""
    if not options.resume:
        check_target(folder, force=options.force)
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} exists and is not a folder: choose another with --run")


def _course(options: argparse.Namespace, share: Share, folder: Path, ann: nn.Module, images: ImageSets) -> Course:
    def validate(module: nn.Module) -> Mapping[str, float]:
        assert isinstance(module, SpikingModel)
        evaluation = evaluate(ann, module, images, argparse.Namespace(**{**vars(options), "quiet": True}))
        share_of_equal = evaluation.fidelity("").top1_agreement
        found = {} if share_of_equal is None else {"agreement": share_of_equal}
        return {**found, "accuracy": evaluation.metric().snn} if images.labelled else found

    logs: tuple[Log, ...] = ()
    if options.tensorboard and share.is_first:
        logs = (TensorBoardLog(folder / _TENSORBOARD),)
    return Course(folder, options.resume, logs, not options.quiet, validate if options.validate else None)
