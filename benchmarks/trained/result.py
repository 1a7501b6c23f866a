"""What the measurement of one network yields."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from snnconvert.report.report import Report

_SHOWN_OPERATORS = 4


@dataclass(frozen=True)
class Result:
    """The metric of one network before and after its conversion.

    Attributes:
        network: its name.
        metric: what is measured, in percent.
        ann: of the network itself; of an agreement, 1.
        snn: of the spiking network.
        samples: how many images or sequences were evaluated.
        calibration: what it was calibrated on.
        report: the conversion's own.
        details: further figures.
        difference_ci95: 95 % interval of SNN minus ANN, as fractions.
        relative_ci95: the same of (SNN minus ANN) / ANN, of metrics that are compared so.
        conversion_seconds: of the conversion; the mean of several.
    """

    network: str
    metric: str
    ann: float
    snn: float
    samples: int
    calibration: str
    report: Report
    details: dict[str, Any] = field(default_factory=dict)
    difference_ci95: tuple[float, float] | None = None
    relative_ci95: tuple[float, float] | None = None
    conversion_seconds: float | None = None

    @property
    def points(self) -> float:
        """SNN minus ANN in percentage points."""
        return 100 * (self.snn - self.ann)

    @property
    def analog(self) -> str:
        """The operators that stay analog, the most frequent first."""
        counts = Counter(item.op for item in self.report.analog)
        shown = [f"{count} {name}" for name, count in counts.most_common(_SHOWN_OPERATORS)]
        return ", ".join([*shown, *(["…"] if len(counts) > _SHOWN_OPERATORS else [])]) or "nothing"

    def cells(self) -> list[str]:
        """One row of the table."""
        return [
            self.network,
            self.metric,
            str(self.samples),
            f"{100 * self.ann:.2f}",
            f"{100 * self.snn:.2f}",
            f"{self.points:+.2f}",
            f"{100 * self.report.coverage.macs_on_spikes:.1f}",
            str(len(self.report.layers)),
            self.analog,
        ]

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form."""
        return {
            "network": self.network,
            "metric": self.metric,
            "samples": self.samples,
            "calibration": self.calibration,
            "ann": self.ann,
            "snn": self.snn,
            "difference_points": self.points,
            "coverage": self.report.coverage.macs_on_spikes,
            "synapses": len(self.report.layers),
            "analog": dict(Counter(item.op for item in self.report.analog)),
            **self.details,
        }


HEADER = ("network", "metric", "samples", "ANN %", "SNN %", "points", "coverage %", "synapses", "analog")
