"""The report's schema: dataclasses that become report.json and are read back from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snnconvert.errors import ArtifactError
from snnconvert.report.allocation import Allocation

SCHEMA = "snnconvert.report/1"


@dataclass(frozen=True)
class Metric:
    """Accuracy of ANN and SNN on the same labelled images, as fractions."""

    name: str
    ann: float
    snn: float
    images: int
    difference_ci95: tuple[float, float]


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
class Totals:
    """Sums over the spiking layers, per image.

    Attributes:
        bit_budget: mean BB = T·b_w·b_s, weighted by multiply-accumulates.
        s_ace: Σ MAC·BB.
        ns_ace: Σ firing rate·MAC·BB.
        macs: multiply-accumulates of the whole network.
        analog_macs: multiply-accumulates that stay analog.
        analog_ace: their effort at 32 bits times 32 bits; not in ``s_ace``.
        input_layer_s_ace: the share of ``s_ace`` of the layers that read the network's input.
        weight_bytes: bytes of the spiking layers' weights at b_w bits.
    """

    bit_budget: float
    s_ace: int
    ns_ace: float
    macs: int
    analog_macs: int
    analog_ace: int
    input_layer_s_ace: int
    weight_bytes: int


@dataclass(frozen=True)
class LayerReport:
    """One spiking layer; ``macs``, ``s_ace`` and ``ns_ace`` are per image, rates and sparsities fractions.

    ``weight_bits`` is the mean of its output channels, where they have widths of their own.
    """

    name: str
    op: str
    macs: int
    T: int
    spike_bits: int
    weight_bits: int | float
    bit_budget: int | float
    s_ace: int
    ns_ace: float
    code: str
    threshold: float
    step: float
    offset: int
    firing_rate: float
    spikes_per_neuron: float
    word_sparsity: float
    bit_sparsity: float
    sqnr_db: float | None
    reads_input: bool


@dataclass(frozen=True)
class AnalogReport:
    """One node that stays analog, with the reason."""

    name: str
    op: str
    reason: str
    macs: int


@dataclass(frozen=True)
class Report:
    """Everything a conversion has to say; see the fields' own types."""

    metric: Metric | None
    fidelity: Fidelity
    coverage: Coverage
    totals: Totals
    layers: tuple[LayerReport, ...]
    analog: tuple[AnalogReport, ...]
    config: Mapping[str, Any]
    calibration_images: int
    model: str = ""
    weights: str = ""
    data: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    allocation: Allocation | None = None
    schema: str = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form; the schema comes first, and there is no "allocation" where nothing was allocated."""
        values = dataclasses.asdict(self)
        if self.allocation is None:
            del values["allocation"]
        return {"schema": values.pop("schema"), **values}

    def summary(self) -> dict[str, Any]:
        """The same without the table of layers: what the command line prints last."""
        values = self.to_dict()
        del values["layers"]
        return values

    def to_json(self, path: str | Path) -> None:
        """Writes report.json."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ArtifactError: if the schema is another one or a field is missing or unknown.
        """
        if data.get("schema") != SCHEMA:
            raise ArtifactError(f"report schema {data.get('schema')!r} is not {SCHEMA!r}")
        try:
            metric = data["metric"]
            values = dict(data)
            values["metric"] = (
                None if metric is None else Metric(**{**metric, "difference_ci95": tuple(metric["difference_ci95"])})
            )
            values["fidelity"] = Fidelity(**data["fidelity"])
            values["coverage"] = Coverage(**data["coverage"])
            values["totals"] = Totals(**data["totals"])
            values["layers"] = tuple(LayerReport(**layer) for layer in data["layers"])
            values["analog"] = tuple(AnalogReport(**item) for item in data["analog"])
            values["notes"] = tuple(data["notes"])
            if data.get("allocation") is not None:
                values["allocation"] = Allocation.from_dict(data["allocation"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the report is incomplete or damaged: {error}") from None
