"""``snnconvert MODEL``: load, plan, calibrate, evaluate, save, and say what happened."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from snnconvert.api import calibrate, prepare
from snnconvert.artifact.atomic import check_target
from snnconvert.calibration.no_data import NoData
from snnconvert.cli.arguments import check_task, config_from
from snnconvert.cli.process_group import Share, process_group
from snnconvert.config import ConversionConfig
from snnconvert.convert.plan import Plan
from snnconvert.data.images import ImageSets, digits_images, open_images, sample_photographs
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.energy.profile import DEFAULT_PROFILE, load_profile
from snnconvert.errors import InputError, first_line
from snnconvert.evaluation import Evaluation, compare
from snnconvert.models.onnx.classifier import is_onnx
from snnconvert.models.source import DIGITS, LoadedModel, load_model
from snnconvert.report.hardware import on_hardware
from snnconvert.report.report import Report
from snnconvert.report.tables import plan_table, report_table
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.evaluation import CLASSIFICATION

PLAN_SCHEMA = "snnconvert.plan/1"
_PHOTOGRAPH_CROPS = 128
_LONGEST_REASON = 200


def run(options: argparse.Namespace) -> None:
    """Runs one conversion from parsed options; the processes of ``torchrun`` share its calibration.

    Raises:
        SnnConvertError: on anything the user has to change; nothing is written then.
    """
    with process_group() as share:
        options.quiet = options.quiet or not share.is_first
        check_task(options)
        if options.task == CLASSIFICATION:
            _run(options, share)
        else:
            importlib.import_module(f"snnconvert.cli.{options.task}_command").run(options, share)


def _run(options: argparse.Namespace, share: Share) -> None:
    config, device = settled(options)
    hardware = load_profile(options.hardware)
    target = checked_target(options)
    loaded = load_model(
        options.model,
        checkpoint=options.checkpoint,
        random_weights=options.random_weights or needs_no_weights(options),
        num_classes=options.num_classes,
        image_size=options.image_size,
        seed=options.seed,
    )
    images = None if options.dry_run and options.data is None else image_sets(options, loaded)
    ann = loaded.module.to(device)
    prepared = prepare(ann, example_of(loaded), config)
    weights = "no weights loaded" if needs_no_weights(options) else f"{loaded.weights} weights"
    say(options, f"{loaded.name} ({weights})\n\n{plan_table(prepared.plan)}\n\n")
    if options.dry_run:
        if share.is_first:
            emit_json(plan_summary(prepared.plan, loaded))
        return
    assert images is not None
    snn = calibrate(prepared, _calibration(images, loaded, options, share), progress=not options.quiet)
    share.wait()
    if not share.is_first:
        return
    evaluation = evaluate(ann, snn, images, options)
    snn.report = completed(snn.report, evaluation, images, loaded)
    if options.hardware != DEFAULT_PROFILE:
        snn.report = on_hardware(snn.report, hardware)
    snn.save(target, force=options.force)
    say(options, f"{report_table(snn.report)}\n\nwritten to {target}{os.sep}\n")
    emit_json(snn.report.summary())


def settled(options: argparse.Namespace) -> tuple[ConversionConfig, torch.device]:
    """The settings and the device that options name, checked before any work; sets torch's threads.

    Raises:
        SnnConvertError: on anything the user has to change.
    """
    config = config_from(options)
    check_numbers(options)
    device = torch_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return config, device


def checked_target(options: argparse.Namespace) -> Path:
    """The folder for a conversion's results.

    Raises:
        InputError: if something would be written and the folder can't be.
    """
    target = options.out if options.out is not None else Path(f"snn-{folder_name(options.model)}")
    if not options.dry_run:
        check_target(target, force=options.force)
    return target


def needs_no_weights(options: argparse.Namespace) -> bool:
    """A plan depends on the architecture alone, so a dry run downloads nothing."""
    own_weights = options.model == DIGITS or is_onnx(options.model)
    return bool(options.dry_run and options.checkpoint is None and not own_weights)


def say(options: argparse.Namespace, text: str) -> None:
    """Writes text to stdout, unless told to be quiet."""
    if not options.quiet:
        sys.stdout.write(text)
        sys.stdout.flush()


def emit_json(data: dict[str, Any]) -> None:
    """Writes one line of JSON to stdout."""
    sys.stdout.write(json.dumps(data, allow_nan=False) + "\n")


def check_numbers(options: argparse.Namespace) -> None:
    """Refuses counts out of their ranges.

    Raises:
        InputError: naming the option.
    """
    most_threads = 4 * (os.cpu_count() or 1)
    ranges = {
        "calib_images": (1, None),
        "eval_images": (1, None),
        "batch_size": (1, None),
        "workers": (0, most_threads),
        "threads": (1, most_threads),
    }
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        option = f"--{name.replace('_', '-')}"
        if value is not None and value < low:
            raise InputError(f"{option} must be at least {low}, got {value}")
        if value is not None and high is not None and value > high:
            raise InputError(f"{option} must be at most {high} on this machine, got {value}")


def torch_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        InputError: if it can't be used.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # each backend fails in its own way
        reason = first_line(error).split(". ")[0][:_LONGEST_REASON]
        raise InputError(f"--device {name} can't be used: {reason}") from None
    return device


def folder_name(model: str) -> str:
    """What a folder for a model's results is called."""
    return re.sub(r"[^\w.-]+", "_", Path(model).stem if is_onnx(model) else model)


def image_sets(options: argparse.Namespace, loaded: LoadedModel) -> ImageSets:
    """The images the options name: their own, the digits or photographs."""
    if options.data is not None:
        return open_images(
            options.data,
            loaded.preprocessing,
            num_classes=loaded.num_classes,
            calibration_images=options.calib_images,
            evaluation_images=options.eval_images,
            seed=options.seed,
        )
    if loaded.name == DIGITS:
        return digits_images(
            loaded.preprocessing,
            calibration_images=options.calib_images,
            evaluation_images=options.eval_images,
            seed=options.seed,
        )
    return photographs(options, loaded.preprocessing)


def photographs(options: argparse.Namespace, preprocessing: Preprocessing) -> ImageSets:
    """Crops of photographs, where no data are given."""
    return sample_photographs(
        preprocessing,
        calibration_images=options.calib_images,
        evaluation_images=options.eval_images or _PHOTOGRAPH_CROPS,
        seed=options.seed,
    )


def example_of(loaded: LoadedModel) -> Tensor:
    """Two random samples to capture the network with."""
    return torch.randn(2, *loaded.input_size, generator=torch.Generator().manual_seed(0))


def _calibration(
    images: ImageSets, loaded: LoadedModel, options: argparse.Namespace, share: Share
) -> DataLoader[Any] | NoData:
    if options.calib == "none":
        return NoData(example_of(loaded), loaded.preprocessing.mean, loaded.preprocessing.std)
    return image_loader(share.of(images.calibration), options)


def image_loader(dataset: Any, options: argparse.Namespace) -> DataLoader[Any]:
    """Batches of images, in their order."""
    return DataLoader(dataset, batch_size=options.batch_size, num_workers=options.workers)


def evaluate(ann: nn.Module, snn: SpikingModel, images: ImageSets, options: argparse.Namespace) -> Evaluation:
    """Both networks on the images for evaluation.

    Raises:
        InputError: if one holds NaN or Inf.
    """
    device = next(snn.buffers()).device
    loader = image_loader(images.evaluation, options)

    def batches() -> Iterator[tuple[Tensor, Tensor | None]]:
        for index, (inputs, labels) in enumerate(
            tqdm(loader, desc="evaluating", unit="batch", disable=True if options.quiet else None)
        ):
            if not torch.isfinite(inputs).all():
                raise InputError(f"evaluation batch {index} holds NaN or Inf")
            yield inputs.to(device), labels.to(device) if images.labelled else None

    return compare(ann, snn, batches())


def completed(report: Report, evaluation: Evaluation, images: ImageSets, loaded: LoadedModel) -> Report:
    """The report with what only the command knows: the evaluation, the data and the weights."""
    unlabelled = () if images.labelled else ("no labels: fidelity to the ANN is reported instead of accuracy",)
    unread = "" if report.calibration_images else " Those for calibration were left unread."
    return dataclasses.replace(
        report,
        metric=evaluation.metric() if images.labelled else None,
        fidelity=evaluation.fidelity("evaluation images"),
        model=loaded.name,
        weights=loaded.weights,
        data=images.description + unread,
        preprocessing=loaded.preprocessing.describe(),
        notes=(*loaded.notes, *report.notes, *unlabelled),
    )


def plan_summary(plan: Plan, loaded: LoadedModel) -> dict[str, Any]:
    """A plan as JSON."""
    layers = [
        {
            "name": item.layer,
            "op": item.op,
            "macs": item.macs,
            "T": item.T,
            "spike_bits": item.bits,
            "weight_bits": item.weight_bits,
            "code": item.neuron,
        }
        for item in plan.synapses
    ]
    return {
        "schema": PLAN_SCHEMA,
        "model": loaded.name,
        "coverage": {"macs_on_spikes": plan.coverage},
        "totals": {"bit_budget": plan.bit_budget, "macs": plan.total_macs},
        "layers": layers,
        "analog": [
            {"name": item.layer, "op": item.op, "reason": item.reason, "macs": item.macs} for item in plan.analog
        ],
    }
