"""``snnconvert MODEL --task detection``: the parts of a detector become spiking networks."""

from __future__ import annotations

import argparse
import dataclasses
import os

import torch
from PIL import Image

from snnconvert.cli.convert_command import PLAN_SCHEMA, emit_json, plan_summary, say
from snnconvert.cli.process_group import Share
from snnconvert.cli.task_run import TaskRun, check_sets, loader_of, task_run
from snnconvert.data.detection_sets import open_boxes
from snnconvert.data.pixels import image_to_tensor, to_channels
from snnconvert.data.sets import TaskSets
from snnconvert.errors import InputError
from snnconvert.hybrid import HybridModel
from snnconvert.models.task_models import LoadedDetector, load_detector
from snnconvert.parts import convert_parts, plan_parts
from snnconvert.report.parts_report import PartsReport
from snnconvert.report.parts_table import parts_plan, parts_table
from snnconvert.report.versions import versions
from snnconvert.tasks.detection import evaluate_detection
from snnconvert.tasks.evaluation import TaskEvaluation


def run(options: argparse.Namespace, share: Share) -> None:
    """Converts the parts of a detector, and measures its mAP. Images go one by one: a detector pads those of a batch.

    Raises:
        SnnConvertError: on anything the user has to change; nothing is written then.
    """
    if share.processes > 1:
        raise InputError("--task detection runs in one process: start it without torchrun")
    if options.calib == "none":
        raise InputError("--task detection calibrates on images: leave out --calib none")
    work = task_run(options)
    detector = load_detector(work.request)
    sets = None if options.dry_run and options.data is None else _sets(work, detector)
    ann = detector.model.module.to(work.device)
    say(options, f"{detector.model.name} ({detector.model.weights} weights)\n\n")
    if options.dry_run:
        _say_plan(work, detector)
        return
    assert sets is not None
    calibration = loader_of(sets.calibration, options, batch_size=None)
    hybrid = convert_parts(ann, calibration, (), work.config, progress=not options.quiet)
    batches = loader_of(sets.evaluation, options, batch_size=None)
    evaluation = evaluate_detection(ann, hybrid, work.progress(batches), seed=options.seed)
    for part in hybrid.parts.values():
        part.report = work.priced(part.report)
    report = dataclasses.replace(_report(hybrid, evaluation, sets, detector), source=work.request.to_dict())
    hybrid.save(work.target, force=options.force, report=report)
    say(options, f"{parts_table(report)}\n\nwritten to {work.target}{os.sep}\n")
    emit_json(report.summary())


def _sets(work: TaskRun, detector: LoadedDetector) -> TaskSets:
    options = work.options
    if options.data is None:
        return work.photographs(detector.model.preprocessing)
    sets = open_boxes(
        options.data,
        in_full,
        labels=detector.labels,
        names=detector.names,
        annotations=options.annotations,
        wishes=work.wishes,
    )
    return check_sets(sets, "torchmetrics", "pycocotools.cocoeval")


def in_full(image: Image.Image) -> torch.Tensor:
    """The whole image in 0..1; the detector resizes it."""
    return image_to_tensor(to_channels(image, 3))


def _say_plan(work: TaskRun, detector: LoadedDetector) -> None:
    side = detector.model.input_size[1]
    example = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    plans = plan_parts(detector.model.module, [example], (), work.config)
    say(work.options, f"{parts_plan(plans)}\n\n")
    parts = {name: plan_summary(plan, detector.model) for name, plan in plans.items()}
    emit_json({"schema": PLAN_SCHEMA, "task": "detection", "model": detector.model.name, "parts": parts})


def _report(hybrid: HybridModel, evaluation: TaskEvaluation, sets: TaskSets, detector: LoadedDetector) -> PartsReport:
    model = detector.model
    for name, part in hybrid.parts.items():
        part.report = dataclasses.replace(
            part.report, task="detection", model=f"{model.name}: {name}", weights=model.weights, data=sets.description
        )
    calibration_images = len(sets.calibration)  # type: ignore[arg-type]
    return PartsReport(
        task="detection",
        metrics=evaluation.metrics,
        coverage=hybrid.coverage,
        parts=hybrid.report,
        outside={item.name: item.reason for item in hybrid.outside},
        calibration_images=calibration_images,
        model=model.name,
        weights=model.weights,
        data=sets.description,
        notes=(*model.notes, *evaluation.notes),
        versions=versions(),
    )
