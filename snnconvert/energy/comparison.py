"""Every model of energy on one network: five forms side by side, by layer and in total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnconvert.energy.break_even import BreakEven, break_even, total_cost
from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.profile import HardwareProfile
from snnconvert.energy.verdict import verdict
from snnconvert.energy.workload import Workload

RIVALS = (Network.TWIN_QNN, Network.ANN_INT8)


@dataclass(frozen=True)
class ModelResult:
    """What one model says of a network, for one image.

    Attributes:
        model: the model's name.
        title: in words.
        unit: of all costs.
        source: of the formulas.
        totals: cost of each of the five networks, by :class:`~snnconvert.energy.cost.Network` value, element-wise
            operations included.
        layers: totals of each layer, by name and network.
        break_even: against the twin and the 8-bit ANN, by network.
        verdict: sentences.
    """

    model: str
    title: str
    unit: str
    source: str
    totals: Mapping[str, Cost]
    layers: Mapping[str, Mapping[str, float]]
    break_even: Mapping[str, BreakEven]
    verdict: tuple[str, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelResult:
        """Reads what ``dataclasses.asdict`` gives.

        Raises:
            TypeError: if a field is missing or unknown.
            KeyError: if a table is missing.
        """
        return cls(
            **{
                **data,
                "totals": {name: Cost(**cost) for name, cost in data["totals"].items()},
                "break_even": {name: BreakEven(**item) for name, item in data["break_even"].items()},
                "verdict": tuple(data["verdict"]),
            }
        )


@dataclass(frozen=True)
class EnergyAccount:
    """All models on one network.

    Attributes:
        hardware: name of the profile.
        constants: all its constants, by table.
        models: one result each.
    """

    hardware: str
    constants: Mapping[str, Mapping[str, float | str]]
    models: tuple[ModelResult, ...]

    def summary(self) -> dict[str, Any]:
        """The hardware, and by model its unit and the total of each network."""
        totals = {item.model: {name: cost.total for name, cost in item.totals.items()} for item in self.models}
        return {"hardware": self.hardware, "units": {item.model: item.unit for item in self.models}, "totals": totals}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EnergyAccount:
        """Reads what ``dataclasses.asdict`` gives.

        Raises:
            TypeError: if a field is missing or unknown.
            KeyError: if a table is missing.
        """
        return cls(**{**data, "models": tuple(ModelResult.from_dict(item) for item in data["models"])})


def compare_energy(workload: Workload, profile: HardwareProfile) -> EnergyAccount:
    """Evaluates every model with the constants of a profile."""
    models = profile.models()
    return EnergyAccount(
        hardware=profile.name,
        constants=profile.tables(),
        models=tuple(_result(model, workload, profile.name) for model in models),
    )


def _result(model: EnergyModel, workload: Workload, hardware: str) -> ModelResult:
    totals = {network.value: total_cost(model, workload, network) for network in Network}
    even = {rival.value: break_even(model, workload, rival) for rival in RIVALS}
    layers = {layer.name: {n.value: model.layer(layer, n).total for n in Network} for layer in workload.layers}
    return ModelResult(
        model=model.name,
        title=model.title,
        unit=model.unit,
        source=model.source,
        totals=totals,
        layers=layers,
        break_even=even,
        verdict=verdict(model, hardware, totals, layers, even),
    )
