"""FastestDet at few bits, trained on photographs without labels: ``python -m benchmarks.finetune_detector``.

The network learns the ANN's outputs on ImageNet's and CamVid's photographs, one by one and as mosaics of four, and is
judged on labelled images of COCO, of which it sees none. The ANN was trained on 118,000 others, which aren't there.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

import snnconvert
from benchmarks.config_options import add_field_option
from benchmarks.real_data import emit_json, emit_table, require_data
from benchmarks.trained.fastest_det import corners_of, figures, read_input, scores_of
from benchmarks.trained.mosaics import WithMosaics
from benchmarks.trained.photographs import batches_of, coco_images, outputs_of
from snnconvert.conversion import convert_whole
from snnconvert.effort import EFFORTS
from snnconvert.models.onnx.model import load_onnx
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.loop import Course

HEADER = ("mean BB", "ANN mAP50 %", "converted %", "trained %", "change", "95 % interval", "photographs", "minutes")
_BATCH = 8
_CALIBRATION = 64
_TINY = 1e-6
_BOX_WEIGHT = 2.0


def main(arguments: list[str] | None = None) -> None:
    """Converts, trains, and evaluates before and after."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    ann = load_onnx(require_data("detection") / "FastestDet.onnx").module
    photographs = _photographs()
    snn = _converted(ann, photographs, options)
    data = WithMosaics(list(map(read_input, photographs)), options.mosaics)
    start = time.perf_counter()
    tuned = _trained(snn, ann, data, options)
    minutes = (time.perf_counter() - start) / 60
    paths = coco_images(require_data("detection"))
    reference, *outputs = (
        outputs_of(network, batches_of(map(read_input, paths), _BATCH)) for network in (ann, snn, tuned)
    )
    before, after = (figures(reference, output, paths) for output in outputs)
    result: dict[str, Any] = {
        "budget": options.budget, "bit_budget": tuned.report.totals.bit_budget, "ann": after.ann,
        "converted": before.snn, "trained": after.snn, "relative": after.snn / after.ann - 1,
        "relative_ci95": after.relative_ci95, "images": after.samples, "photographs": len(data), "minutes": minutes,
    }  # fmt: skip
    emit_table(HEADER, [_cells(result)])
    emit_json({"benchmark": "finetune_detector", **result, "training": tuned.report.training})


def _converted(ann: nn.Module, photographs: Sequence[Path], options: argparse.Namespace) -> snnconvert.SpikingModel:
    config = snnconvert.ConversionConfig(**{**EFFORTS["fast"], "budget": options.budget, **dict(options.set)})
    some = photographs[:: max(len(photographs) // _CALIBRATION, 1)]
    return convert_whole(ann, list(batches_of(map(read_input, some), _BATCH)), config, progress=False)


def _trained(
    snn: snnconvert.SpikingModel, ann: nn.Module, data: WithMosaics, options: argparse.Namespace
) -> snnconvert.SpikingModel:
    config = FinetuneConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        augmentation="flip-crop",
        ema=0.99,
    )
    course = Course(options.run, resume=options.run is not None, progress=True)
    return finetune(snn, data, config, teacher=ann, course=course, distance=distance)


def _cells(result: Mapping[str, Any]) -> list[str]:
    low, high = result["relative_ci95"] or (math.nan, math.nan)
    return [
        f"{result['bit_budget']:.1f}",
        *(f"{100 * result[key]:.1f}" for key in ("ann", "converted", "trained")),
        f"{100 * result['relative']:+.1f} %",
        f"{100 * low:+.1f} .. {100 * high:+.1f} %",
        str(result["photographs"]),
        f"{result['minutes']:.0f}",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.finetune_detector", description=__doc__)
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


def distance(output: Tensor, reference: Tensor) -> Tensor:
    """How far outputs [N, 5 + classes, H, W] are from the ANN's: boxes and classes count where the ANN sees objects.

    Objectness: cross-entropy with the ANN's, less its entropy. Classes: KL. Boxes: generalized IoU loss. Sums over
    cells, those of classes and boxes weighted by the ANN's score w, all divided by Σ w.
    """
    weight = scores_of(reference)
    found, wanted = (part[:, 0].clamp(_TINY, 1 - _TINY) for part in (output, reference))
    objects = wanted * (wanted / found).log() + (1 - wanted) * ((1 - wanted) / (1 - found)).log()
    likely, known = (part[:, 5:].clamp_min(_TINY) for part in (output, reference))
    classes = (known * (known / likely).log()).sum(1).flatten(1)
    pairs = (corners_of(part).flatten(0, 1) for part in (output, reference))
    boxes = generalized_box_iou_loss(*pairs).view_as(weight)
    total: Tensor = objects.sum() + (weight * (classes + _BOX_WEIGHT * boxes)).sum()
    return total / weight.sum().clamp(min=1)


if __name__ == "__main__":
    main()
