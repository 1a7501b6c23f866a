"""The accuracy of a classifier before and after its conversion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from benchmarks.trained.conversion import timed_conversion
from benchmarks.trained.result import Result
from snnconvert.config import ConversionConfig
from snnconvert.evaluation import compare


def measure_classifier(
    name: str,
    ann: nn.Module,
    calibration: Iterable[Tensor] | Tensor,
    described: str,
    batches: Iterable[tuple[Tensor, Tensor]],
    config: ConversionConfig | None,
) -> Result:
    """Top-1 accuracy of both networks on the same labelled images.

    Args:
        name: the network's name in the results.
        ann: the network.
        calibration: images to calibrate on.
        described: what these are.
        batches: (images, labels) to evaluate on.
        config: the settings; None for the default ones.
    """
    snn: Any
    snn, seconds = timed_conversion(ann, calibration, config)
    evaluation = compare(ann, snn, batches)
    metric = evaluation.metric()
    return Result(
        name,
        "accuracy",
        metric.ann,
        metric.snn,
        metric.images,
        described,
        snn.report,
        {"agreement": evaluation.fidelity("test images").top1_agreement},
        difference_ci95=metric.difference_ci95,
        conversion_seconds=seconds,
    )
