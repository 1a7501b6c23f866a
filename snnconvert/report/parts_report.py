"""The report on a network that is converted by parts, such as a detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnconvert.errors import ArtifactError
from snnconvert.report.report import Report
from snnconvert.report.schema import Metric

SCHEMA = "snnconvert.parts-report/1"


@dataclass(frozen=True)
class PartsReport:
    """What a conversion by parts has to say.

    Attributes:
        task: what the network does, such as "detection".
        metrics: of ANN and SNN on the same images, the task's own first; empty where nothing defines one.
        coverage: share of all multiply-accumulates whose activations are spikes.
        parts: the report of each part, by its name in the model.
        outside: the reason of each module that stays as it is, by its name in the model.
        calibration_images: how many images calibrated.
        model: the network's name.
        weights: where its weights come from.
        data: words for the images.
        notes: what the reader has to know.
        versions: of what produced the figures.
        source: how the rest of the network is had again; empty if nobody knows.
    """

    task: str
    metrics: tuple[Metric, ...]
    coverage: float
    parts: Mapping[str, Report]
    outside: Mapping[str, str]
    calibration_images: int
    model: str
    weights: str
    data: str
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def metric(self) -> Metric | None:
        """The task's own metric."""
        return self.metrics[0] if self.metrics else None

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form, with the whole report of each part."""
        return {**self._head(), "parts": {name: report.to_dict() for name, report in self.parts.items()}}

    def summary(self) -> dict[str, Any]:
        """The same with the coverage, totals and fidelity of each part alone: what the command line prints last."""
        parts = {
            name: {
                "coverage": dataclasses.asdict(report.coverage),
                "totals": dataclasses.asdict(report.totals),
                "fidelity": dataclasses.asdict(report.fidelity),
            }
            for name, report in self.parts.items()
        }
        return {**self._head(), "parts": parts}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PartsReport:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ArtifactError: if the schema is another one or a field is missing or unknown.
        """
        if data.get("schema") != SCHEMA:
            raise ArtifactError(f"report schema {data.get('schema')!r} is not {SCHEMA!r}")
        try:
            values = {name: value for name, value in data.items() if name != "metric"}
            values["metrics"] = tuple(Metric.from_dict(item) for item in data["metrics"])
            values["coverage"] = float(data["coverage"]["macs_on_spikes"])
            values["parts"] = {str(name): Report.from_dict(item) for name, item in data["parts"].items()}
            values["notes"] = tuple(data["notes"])
            values["source"] = dict(data.get("source", {}))
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"the report is incomplete or damaged: {error}") from None

    def _head(self) -> dict[str, Any]:
        metrics = [dataclasses.asdict(metric) for metric in self.metrics]
        return {
            "schema": self.schema,
            "task": self.task,
            "metric": metrics[0] if metrics else None,
            "metrics": metrics,
            "coverage": {"macs_on_spikes": self.coverage},
            "outside": dict(self.outside),
            "calibration_images": self.calibration_images,
            "model": self.model,
            "weights": self.weights,
            "data": self.data,
            "notes": list(self.notes),
            "versions": dict(self.versions),
            "source": dict(self.source),
        }
