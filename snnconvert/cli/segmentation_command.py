"""``snnconvert MODEL --task segmentation``."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnconvert.api import calibrate, prepare
from snnconvert.calibration.no_data import NoData
from snnconvert.cli.convert_command import emit_json, example_of, plan_summary, say
from snnconvert.cli.process_group import Share
from snnconvert.cli.task_run import TaskRun, check_sets, loader_of, task_run
from snnconvert.data.masks import open_masks
from snnconvert.data.sets import TaskSets
from snnconvert.models.source import LoadedModel
from snnconvert.models.task_models import load_segmentation
from snnconvert.report.report import Report
from snnconvert.report.tables import plan_table, report_table
from snnconvert.tasks.evaluation import TaskEvaluation
from snnconvert.tasks.segmentation import VOID, evaluate_segmentation


def run(options: argparse.Namespace, share: Share) -> None:
    """Converts a network for segmentation, and measures its mIoU.

    Raises:
        SnnConvertError: on anything the user has to change; nothing is written then.
    """
    work = task_run(options)
    loaded = load_segmentation(work.request)
    sets = None if options.dry_run and options.data is None else _sets(work, loaded)
    ann = loaded.module.to(work.device)
    prepared = prepare(ann, example_of(loaded), work.config)
    say(options, f"{loaded.name} ({loaded.weights} weights)\n\n{plan_table(prepared.plan)}\n\n")
    if options.dry_run:
        if share.is_first:
            emit_json({**plan_summary(prepared.plan, loaded), "task": "segmentation"})
        return
    assert sets is not None
    calibration: Any = loader_of(share.of(sets.calibration), options, batch_size=options.batch_size)
    if options.calib == "none":
        calibration = NoData(example_of(loaded), loaded.preprocessing.mean, loaded.preprocessing.std)
    snn = calibrate(prepared, calibration, progress=not options.quiet)
    share.wait()
    if not share.is_first:
        return
    collate = with_masks if sets.labelled else None
    batches = loader_of(sets.evaluation, options, batch_size=options.batch_size, collate_fn=collate)
    evaluation = evaluate_segmentation(ann, snn, work.progress(batches), void=_void(options), seed=options.seed)
    snn.report = work.priced(_completed(snn.report, evaluation, sets, loaded))
    snn.save(work.target, force=options.force)
    say(options, f"{report_table(snn.report)}\n\nwritten to {work.target}{os.sep}\n")
    emit_json(snn.report.summary())


def _void(options: argparse.Namespace) -> int:
    return VOID if options.void is None else int(options.void)


def _sets(work: TaskRun, loaded: LoadedModel) -> TaskSets:
    if work.options.data is None:
        return work.photographs(loaded.preprocessing)
    sets = open_masks(
        work.options.data,
        loaded.preprocessing,
        num_classes=loaded.num_classes,
        void=_void(work.options),
        wishes=work.wishes,
    )
    return check_sets(sets, "torchmetrics")


def with_masks(items: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """A batch of images of one size and masks of their own sizes."""
    return torch.stack([image for image, _ in items]), [mask for _, mask in items]


def _completed(report: Report, evaluation: TaskEvaluation, sets: TaskSets, loaded: LoadedModel) -> Report:
    assert evaluation.fidelity is not None
    unread = "" if report.calibration_images else " Those for calibration were left unread."
    return dataclasses.replace(
        report,
        task="segmentation",
        metric=evaluation.metric,
        fidelity=evaluation.fidelity,
        model=loaded.name,
        weights=loaded.weights,
        data=sets.description + unread,
        preprocessing=loaded.preprocessing.describe(),
        notes=(*loaded.notes, *report.notes, *evaluation.notes),
    )
