"""What commands on a saved network share where it segments or detects: the network, and images with masks or boxes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from snnconvert.artifact.hybrid_store import is_hybrid, load_parts
from snnconvert.cli.arguments import check_task
from snnconvert.cli.detection_command import in_full
from snnconvert.cli.saved import PHOTOGRAPH_CROPS, check_counts
from snnconvert.cli.saved_report import FILE_NAME
from snnconvert.cli.segmentation_command import with_masks
from snnconvert.cli.task_run import check_sets
from snnconvert.data.detection_sets import open_boxes
from snnconvert.data.division import Wishes
from snnconvert.data.images import sample_photographs
from snnconvert.data.masks import open_masks
from snnconvert.data.plain import without_labels
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.data.sets import TaskSets
from snnconvert.errors import ArtifactError, InputError, first_line
from snnconvert.hybrid import HybridModel
from snnconvert.models.task_models import LoadedDetector, ModelRequest, load_detector
from snnconvert.report.parts_report import PartsReport
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.engine_scores import DetectionScorer
from snnconvert.tasks.evaluation import CLASSIFICATION, DETECTION, TASKS
from snnconvert.tasks.segmentation import VOID, segmentation_logits


def add_task(parser: argparse.ArgumentParser) -> None:
    """The options of networks for segmentation and detection: those of the conversion that say what is measured."""
    group = parser.add_argument_group("segmentation and detection")
    group.add_argument("--task", choices=TASKS, help="what the network does (default: what it was converted for)")
    group.add_argument(
        "--annotations", type=Path, metavar="FILE", help="COCO's .json file, if it isn't the one in --data"
    )
    group.add_argument("--void", type=int, metavar="N", help=f"value of mask pixels that don't count (default {VOID})")
    group.add_argument(
        "--checkpoint", type=Path, metavar="FILE",
        help="of a detector, the weights of what stays outside of its parts (default: where the conversion had them)",
    )  # fmt: skip


def task_of(options: argparse.Namespace) -> str:
    """What the saved network does.

    Raises:
        InputError: if ``--task`` names something else, or an option is for another task.
        ArtifactError: if its report can't be read.
    """
    saved = DETECTION if is_hybrid(options.network) else str(_report_of(options.network).get("task", CLASSIFICATION))
    if options.task not in (None, saved):
        raise InputError(f"{options.network} was converted for {saved}, not {options.task}: leave --task out")
    options.task = saved
    check_task(options)
    if options.checkpoint is not None and saved != DETECTION:
        raise InputError(f"{options.network} holds its whole network: leave --checkpoint out")
    return saved


def saved_masks(snn: SpikingModel, options: argparse.Namespace) -> TaskSets:
    """Images that the network was not calibrated on, with masks if ``--data`` has some.

    Raises:
        InputError: if the network doesn't say how images are prepared, or they can't be used.
    """
    if not snn.report.preprocessing:
        raise InputError(
            f"{options.network} doesn't say how its images are prepared (it was not converted by this command): "
            "measure it from Python with snnconvert.evaluate"
        )
    preprocessing = Preprocessing.from_description(snn.report.preprocessing)
    wishes = _wishes(options, snn.report.calibration_images)
    if options.data is None:
        return _photographs(preprocessing, wishes)
    sets = open_masks(options.data, preprocessing, num_classes=_map_classes(snn), void=void_of(options), wishes=wishes)
    return check_sets(sets, "torchmetrics")


def saved_boxes(options: argparse.Namespace) -> tuple[HybridModel, PartsReport, TaskSets]:
    """The detector with its spiking parts, its report, and images that it was not calibrated on.

    Raises:
        InputError: if the report doesn't say what the parts are parts of, or the detector or the images can't be had.
        ArtifactError: if a file is damaged.
    """
    check_counts(options)
    path = options.network / FILE_NAME
    report = PartsReport.from_dict(_report_of(options.network)) if path.is_file() else None
    if report is None or not report.source:
        folders = ", ".join(f"{folder} ({name})" for name, folder in load_parts(options.network).folders.items())
        raise InputError(
            f"{options.network} holds parts of a network and doesn't say of which (it was not converted by this "
            f"command): give a part's folder ({folders}), or put them into it with HybridModel.load and measure it "
            "from Python with snnconvert.evaluate"
        )
    detector = load_detector(_request(report, options))
    hybrid = HybridModel.load(options.network, detector.model.module)
    return hybrid, report, _boxes(detector, _wishes(options, report.calibration_images), options)


def mask_batches(sets: TaskSets, options: argparse.Namespace, what: str) -> Iterator[tuple[Any, Any]]:
    """Batches (images, masks or None) behind a progress bar."""
    collate = with_masks if sets.labelled else None
    loader = DataLoader(sets.evaluation, batch_size=options.batch_size, collate_fn=collate)
    for item in tqdm(loader, desc=what, unit="batch", disable=True if options.quiet else None):
        yield item if sets.labelled else (item, None)


def box_items(sets: TaskSets, options: argparse.Namespace, what: str) -> Iterator[tuple[list[torch.Tensor], Any]]:
    """Images one by one, as ([image], [target] or None), behind a progress bar."""
    loader = DataLoader(sets.evaluation, batch_size=None)
    for item in tqdm(loader, desc=what, unit="image", disable=True if options.quiet else None):
        yield ([item[0]], [item[1]]) if sets.labelled else ([item], None)


def box_scorer(options: argparse.Namespace) -> DetectionScorer:
    """What judges boxes."""
    return DetectionScorer(options.seed)


def void_of(options: argparse.Namespace) -> int:
    """The value of mask pixels that don't count."""
    return VOID if options.void is None else int(options.void)


def _wishes(options: argparse.Namespace, calibration_images: int) -> Wishes:
    return Wishes(options.calib_images or max(calibration_images, 1), options.images, options.seed)


def _photographs(preprocessing: Preprocessing, wishes: Wishes) -> TaskSets:
    images = sample_photographs(
        preprocessing,
        calibration_images=wishes.calibration_images,
        evaluation_images=wishes.evaluation_images or PHOTOGRAPH_CROPS,
        seed=wishes.seed,
    )
    return without_labels(images)


def _boxes(detector: LoadedDetector, wishes: Wishes, options: argparse.Namespace) -> TaskSets:
    if options.data is None:
        return _photographs(detector.model.preprocessing, wishes)
    sets = open_boxes(
        options.data,
        in_full,
        labels=detector.labels,
        names=detector.names,
        annotations=options.annotations,
        wishes=wishes,
    )
    return check_sets(sets, "torchmetrics", "pycocotools.cocoeval")


def _request(report: PartsReport, options: argparse.Namespace) -> ModelRequest:
    try:
        request = ModelRequest.from_dict(report.source)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{options.network / FILE_NAME} is damaged: its source: {first_line(error)}") from None
    return request if options.checkpoint is None else replace(request, checkpoint=options.checkpoint)


def _map_classes(snn: SpikingModel) -> int:
    with torch.no_grad():
        output = snn(torch.zeros(1, *(size for size in snn.input_shape if size is not None)))
    return segmentation_logits(output).shape[1]


def _report_of(folder: Path) -> dict[str, Any]:
    """A folder's report.json; nothing where there is none."""
    path = folder / FILE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} can't be read: {first_line(error)}") from None
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} is no report")
    return data
