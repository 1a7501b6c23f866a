"""Real detectors at few bits, trained on photographs without labels: ``python -m benchmarks.finetune_detector``.

The network learns the ANN's outputs on ImageNet's and CamVid's photographs, one by one and as mosaics of four, and is
judged on images of COCO, of which it sees none. FastestDet was trained on 118,000 others, which aren't there; faces
are judged by those that the ANN finds.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import snnconvert
from benchmarks.config_options import add_field_option
from benchmarks.detector_courses import COURSES, DetectorCourse, Prepared
from benchmarks.real_data import emit_json, emit_table, require_data
from benchmarks.trained.mosaics import WithMosaics
from benchmarks.trained.photographs import batches_of, coco_images, outputs_of
from snnconvert.effort import EFFORTS
from snnconvert.models.onnx.model import load_onnx
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.loop import Course

HEADER = (
    "network",
    "metric",
    "mean BB",
    "ANN %",
    "converted %",
    "trained %",
    "change",
    "95 % interval",
    "photographs",
    "minutes",
)
_BATCH = 8


def main(arguments: list[str] | None = None) -> None:
    """Converts, trains, and evaluates before and after."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    course = COURSES[options.network]
    ann = load_onnx(require_data("detection") / course.file).module
    calibration, chosen = course.chosen(ann, _photographs())
    snn = _converted(ann, course, calibration, options)
    data = Prepared(WithMosaics(list(map(course.read_pixels, chosen)), options.mosaics), course.prepared)
    start = time.perf_counter()
    tuned = _trained(snn, ann, data, course, options)
    minutes = (time.perf_counter() - start) / 60
    paths = coco_images(require_data("detection"))
    reference, *outputs = (
        outputs_of(network, batches_of(map(course.read_input, paths), _BATCH)) for network in (ann, snn, tuned)
    )
    before, after = (course.figures(reference, output, paths) for output in outputs)
    result: dict[str, Any] = {
        "network": options.network, "metric": course.metric, "budget": options.budget,
        "bit_budget": tuned.report.totals.bit_budget, "ann": after.ann, "converted": before.snn, "trained": after.snn,
        "relative": after.snn / after.ann - 1, "relative_ci95": after.relative_ci95, "images": after.samples,
        "photographs": len(data), "minutes": minutes,
    }  # fmt: skip
    emit_table(HEADER, [_cells(result)])
    emit_json({"benchmark": "finetune_detector", **result, "training": tuned.report.training})


def _converted(
    ann: nn.Module, course: DetectorCourse, calibration: Sequence[Path], options: argparse.Namespace
) -> snnconvert.SpikingModel:
    config = snnconvert.ConversionConfig(**{**EFFORTS["fast"], "budget": options.budget, **dict(options.set)})
    some = list(batches_of(map(course.read_input, calibration), _BATCH))
    snn = snnconvert.convert(ann, some, config, progress=False)
    assert isinstance(snn, snnconvert.SpikingModel)
    return snn


def _trained(
    snn: snnconvert.SpikingModel, ann: nn.Module, data: Prepared, course: DetectorCourse, options: argparse.Namespace
) -> snnconvert.SpikingModel:
    config = FinetuneConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        augmentation="flip-crop",
        ema=0.99,
    )
    run = Course(options.run, resume=options.run is not None, progress=True)
    return finetune(snn, data, config, teacher=ann, course=run, distance=course.distance)


def _cells(result: Mapping[str, Any]) -> list[str]:
    low, high = result["relative_ci95"] or (math.nan, math.nan)
    return [
        result["network"],
        result["metric"],
        f"{result['bit_budget']:.1f}",
        *(f"{100 * result[key]:.1f}" for key in ("ann", "converted", "trained")),
        f"{100 * result['relative']:+.1f} %",
        f"{100 * low:+.1f} .. {100 * high:+.1f} %",
        str(result["photographs"]),
        f"{result['minutes']:.0f}",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.finetune_detector", description=__doc__)
    parser.add_argument("--network", choices=list(COURSES), default="fastestdet")
    parser.add_argument("--budget", type=float, default=16.0, help="mean bit budget")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--mosaics", type=int, default=400)
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="of checkpoints; an interrupted run goes on from it")
    parser.add_argument("--threads", type=int, default=2)
    add_field_option(parser)
    return parser


def _photographs() -> list[Path]:
    imagenet, camvid = require_data("imagenet"), require_data("camvid")
    return [
        path for folder in (imagenet / "calib", imagenet / "val", camvid / "train") for path in sorted(folder.iterdir())
    ]


if __name__ == "__main__":
    main()
