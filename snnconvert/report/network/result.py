"""What the account of a network says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snnconvert.energy.comparison import EnergyAccount
from snnconvert.errors import ArtifactError
from snnconvert.report.layer_account import AnalogReport, LayerAccount, Totals
from snnconvert.report.network.table import network_table
from snnconvert.report.schema import Coverage

SCHEMA = "snnconvert.account/1"


@dataclass(frozen=True)
class NetworkAccount:
    """The account of a network's run; everything but ``images`` is per image.

    Attributes:
        name: the network's class.
        layers: synapses that read spikes.
        analog: synapses that read real numbers, and element-wise work by module, at full price.
        totals: sums and means.
        coverage: share of multiply-accumulates that read spikes.
        energy: by every model.
        images: how many it was measured on.
        neuron_operations: element-wise operations inside modules that fire. They are membrane updates, which models of
            energy charge with the layers, and not in ``totals``.
        notes: what was estimated or couldn't be counted.
        versions: of what produced the figures.
    """

    name: str
    layers: tuple[LayerAccount, ...]
    analog: tuple[AnalogReport, ...]
    totals: Totals
    coverage: Coverage
    energy: EnergyAccount
    images: int
    neuron_operations: int = 0
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    schema: str = SCHEMA

    def __str__(self) -> str:
        return network_table(self.layers, self.analog, self.totals, self.energy, self.notes)

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form; the schema comes first."""
        values = dataclasses.asdict(self)
        return {"schema": values.pop("schema"), **values}

    def to_json(self, path: str | Path) -> None:
        """Writes it to a file."""
        Path(path).write_text(json.dumps(self.to_dict(), separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkAccount:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ArtifactError: if the schema is another one or a field is missing or unknown.
        """
        if data.get("schema") != SCHEMA:
            raise ArtifactError(f"account schema {data.get('schema')!r} is not {SCHEMA!r}")
        try:
            return cls(
                **{
                    **data,
                    "layers": tuple(LayerAccount(**layer) for layer in data["layers"]),
                    "analog": tuple(AnalogReport(**item) for item in data["analog"]),
                    "totals": Totals(**data["totals"]),
                    "coverage": Coverage(**data["coverage"]),
                    "energy": EnergyAccount.from_dict(data["energy"]),
                    "notes": tuple(data["notes"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"the account is incomplete or damaged: {error}") from None
