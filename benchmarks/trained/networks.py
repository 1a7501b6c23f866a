"""The trained networks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.accuracy_targets import difference
from benchmarks.row_store import Row
from benchmarks.trained import camvid, cifar, face_detector, fastest_det, mnist, mobilenet, sorting_gpt
from benchmarks.trained.result import Result
from benchmarks.trained.task import Task, measure
from snnconvert.config import ConversionConfig


@dataclass(frozen=True)
class Network:
    """One network to measure.

    Attributes:
        task: the network with its data, of so many images to evaluate on at most.
        data: the folder it needs.
        dense: whether its metric judges dense outputs, whose losses are counted relatively.
    """

    task: Callable[[int | None], Task]
    data: str
    dense: bool = False

    def measure(self, images: int | None = None, config: ConversionConfig | None = None) -> Result:
        """Its metric before and after a conversion.

        Args:
            images: how many to evaluate on at most.
            config: the settings; None for the default ones.
        """
        return measure(self.task(images), config)

    def row(self, result: Result) -> Row:
        """What a JSON file holds of one result, but for what it was asked for."""
        interval = result.relative_ci95 if self.dense else result.difference_ci95
        return {
            "metric": result.metric,
            "samples": result.samples,
            "calibration": result.calibration,
            "bit_budget": result.report.totals.bit_budget,
            "ann": result.ann,
            "snn": result.snn,
            "difference": difference(result.ann, result.snn, relative=self.dense),
            "unit": "%" if self.dense else "points",
            "ci95": None if interval is None else [100 * end for end in interval],
            "seconds": result.conversion_seconds,
            "notes": list(result.report.notes),
            "details": result.details,
        }


NETWORKS = {
    "resnet20": Network(partial(cifar.task, 20), "cifar10"),
    "resnet44": Network(partial(cifar.task, 44), "cifar10"),
    "mobilenetv2": Network(mobilenet.task, "imagenet"),
    "fastestdet": Network(fastest_det.task, "detection", dense=True),
    "faces": Network(face_detector.task, "detection", dense=True),
    "camvid": Network(camvid.task, "camvid", dense=True),
    "mnist": Network(mnist.task, "mnist"),
    "gpt": Network(sorting_gpt.task, "gpt_nano_sort"),
}
