"""A trained network with its data, and what judges the conversions of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn

from benchmarks.trained.conversion import timed_conversion
from benchmarks.trained.result import Result
from snnconvert.config import ConversionConfig
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.bootstrap import Statistic, paired_bootstrap

Calibration: TypeAlias = Iterable[Any] | Tensor


@dataclass(frozen=True)
class Figures:
    """A metric of ANN and SNN on the same samples; the fields are those of :class:`Result`."""

    ann: float
    snn: float
    samples: int
    details: dict[str, Any] = field(default_factory=dict)
    difference_ci95: tuple[float, float] | None = None
    relative_ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Task:
    """One trained network, what to calibrate it on, and what judges its conversions.

    Attributes:
        network: its name in the results.
        metric: what is measured, in percent.
        ann: the network itself, in evaluation mode.
        calibrations: what gives the calibration batches, anew each time; one for each fold of a cross-validation, of
            which most networks have a single one.
        described: what the batches of one fold are.
        figures: the metric of the ANN and of its conversions, one for each of the first folds, on samples that none of
            them was calibrated on.
    """

    network: str
    metric: str
    ann: nn.Module
    calibrations: Sequence[Callable[[], Calibration]]
    described: str
    figures: Callable[[Sequence[nn.Module]], Figures]

    def judge(self, snns: Sequence[SpikingModel]) -> Result:
        """The metric before and after conversion.

        Args:
            snns: a conversion for each fold, or for the first ones of them.
        """
        described = self.described if len(snns) == 1 else f"{len(snns)} times {self.described}"
        return Result(
            self.network,
            self.metric,
            calibration=described,
            report=snns[0].report,
            **vars(self.figures(snns)),
        )


def measure(task: Task, config: ConversionConfig | None = None) -> Result:
    """Converts a network, once for every fold, and judges it.

    Args:
        task: the network.
        config: the settings; None for the default ones.
    """
    converted = [timed_conversion(task.ann, calibration(), config) for calibration in task.calibrations]
    seconds = sum(seconds for _, seconds in converted) / len(converted)
    return dataclasses.replace(task.judge([snn for snn, _ in converted]), conversion_seconds=seconds)


def bootstrapped(ann: Statistic, snn: Statistic, samples: int, details: dict[str, Any]) -> Figures:
    """Two metrics that are no mean over the samples, with intervals.

    Args:
        ann: the metric of the ANN.
        snn: the same of the SNN.
        samples: how many there are.
        details: further figures.
    """
    metric = paired_bootstrap(ann, snn, samples)
    return Figures(metric.first, metric.second, samples, details, metric.difference_ci95, metric.relative_ci95)
