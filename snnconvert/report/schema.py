"""The report's schema: dataclasses that become report.json and are read back from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnconvert.energy.comparison import EnergyAccount
from snnconvert.energy.workload import Workload
from snnconvert.errors import ArtifactError
from snnconvert.report.allocation import Allocation
from snnconvert.report.layer_account import AnalogReport, LayerAccount, Totals, workload_of

if TYPE_CHECKING:
    from typing_extensions import Self

SCHEMA = "snnconvert.report/2"


@dataclass(frozen=True)
class Metric:
    """A metric of ANN and SNN on the same images, as fractions: accuracy, or that of another task.

    The 95 % interval of SNN minus ANN is None where the images don't tell one.
    """

    name: str
    ann: float
    snn: float
    images: int
    difference_ci95: tuple[float, float] | None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Metric:
        """Reads what ``dataclasses.asdict`` gave.

        Raises:
            KeyError: if a field is missing.
            TypeError: if one is unknown.
        """
        interval = data["difference_ci95"]
        return cls(**{**data, "difference_ci95": None if interval is None else tuple(interval)})


@dataclass(frozen=True)
class Fidelity:
    """How closely the SNN follows the ANN: share of equal decisions, and the SQNR of all outputs in dB.

    The share is None where it isn't clear which of several outputs holds the decisions.
    """

    top1_agreement: float | None
    logit_sqnr_db: float | None
    images: int
    measured_on: str


@dataclass(frozen=True)
class Coverage:
    """Share of multiply-accumulates whose activations are spikes."""

    macs_on_spikes: float


@dataclass(frozen=True)
class LayerReport(LayerAccount):
    """One spiking layer of a conversion, with what calibration chose and measured.

    Attributes:
        code: of the spikes it reads.
        threshold: θ, what the largest value of a window stands for, less the smallest.
        step: Δ, what one integer step stands for; the largest of its channels.
        offset: zero point.
        sqnr_db: of its output against the ANN's.
    """

    code: str
    threshold: float
    step: float
    offset: int
    sqnr_db: float | None


@dataclass(frozen=True)
class NeuronReport:
    """What neurons of one layer encode.

    Attributes:
        name: the layer's.
        layers: the synapses that read them.
        code: in words.
        low: the smallest value their spikes can stand for, in the ANN's units; of several channels, of the widest.
        high: the largest one.
        step: Δ of the widest channel.
        finest_step: Δ of the narrowest channel.
        channels: how many channels have steps of their own; 1: all share one.
        clipped: share of the calibration's values beyond low and high; None where the calibration saw none.
        edges: (first, last) of the histogram's equal bins.
        histogram: the calibration's values in these bins, as shares.
    """

    name: str
    layers: tuple[str, ...]
    code: str
    low: float
    high: float
    step: float
    finest_step: float
    channels: int
    clipped: float | None
    edges: tuple[float, float]
    histogram: tuple[float, ...]


@dataclass(frozen=True)
class ReportData:
    """Everything a conversion has to say; see the fields' own types."""

    metric: Metric | None
    fidelity: Fidelity
    coverage: Coverage
    totals: Totals
    layers: tuple[LayerReport, ...]
    analog: tuple[AnalogReport, ...]
    energy: EnergyAccount
    config: Mapping[str, Any]
    calibration_images: int
    neurons: tuple[NeuronReport, ...] = ()
    model: str = ""
    weights: str = ""
    data: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    allocation: Allocation | None = None
    training: Mapping[str, Any] | None = None
    task: str = "classification"
    schema: str = SCHEMA

    @property
    def workload(self) -> Workload:
        """What models of energy ask for."""
        return workload_of(self.layers, self.analog, self.totals)

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form; the schema comes first, and what was neither allocated nor trained isn't named."""
        values = dataclasses.asdict(self)
        for name in ("allocation", "training"):
            if values[name] is None:
                del values[name]
        return {"schema": values.pop("schema"), **values}

    def summary(self) -> dict[str, Any]:
        """The same without tables of layers, and of energies the totals alone: what the command line prints last."""
        values = self.to_dict()
        del values["layers"], values["neurons"]
        return {**values, "energy": self.energy.summary()}

    def to_json(self, path: str | Path) -> None:
        """Writes report.json."""
        Path(path).write_text(self.json_text(), encoding="utf-8")

    def json_text(self) -> str:
        """What report.json holds."""
        return json.dumps(self.to_dict(), separators=(",", ":")) + "\n"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ArtifactError: if the schema is another one or a field is missing or unknown.
        """
        if data.get("schema") != SCHEMA:
            raise ArtifactError(f"report schema {data.get('schema')!r} is not {SCHEMA!r}")
        try:
            values = dict(data)
            values["metric"] = None if data["metric"] is None else Metric.from_dict(data["metric"])
            values["fidelity"] = Fidelity(**data["fidelity"])
            values["coverage"] = Coverage(**data["coverage"])
            values["totals"] = Totals(**data["totals"])
            values["layers"] = tuple(LayerReport(**layer) for layer in data["layers"])
            values["analog"] = tuple(AnalogReport(**item) for item in data["analog"])
            values["energy"] = EnergyAccount.from_dict(data["energy"])
            values["neurons"] = tuple(_neuron(item) for item in data["neurons"])
            values["notes"] = tuple(data["notes"])
            if data.get("allocation") is not None:
                values["allocation"] = Allocation.from_dict(data["allocation"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the report is incomplete or damaged: {error}") from None


def _neuron(item: Mapping[str, Any]) -> NeuronReport:
    tuples = {name: tuple(item[name]) for name in ("layers", "edges", "histogram")}
    return NeuronReport(**{**item, **tuples})
