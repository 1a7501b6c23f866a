"""Energy by every model: totals, components, break-even and verdicts."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.energy.break_even import BreakEven
from snnconvert.energy.comparison import EnergyAccount, ModelResult
from snnconvert.energy.cost import Network
from snnconvert.report.view.numbers import ABSENT, cost, percent, ratio, times
from snnconvert.report.view.parts import Cell, Column, Table

NETWORKS = {
    Network.ANN_FLOAT32.value: "ANN float32",
    Network.ANN_INT8.value: "ANN int8",
    Network.TWIN_QNN.value: "twin QNN",
    Network.SNN_SERIAL.value: "SNN bit by bit",
    Network.SNN_PACKED.value: "SNN packed",
}
COMPONENTS = {
    "compute": "arithmetic",
    "weights": "reading weights",
    "activations": "activations and spikes in memory",
    "state": "membranes and partial sums",
    "movement": "moving spikes and activations",
}
_TWIN = Network.TWIN_QNN.value
_OUTCOMES = {
    "always": "wins at any rate",
    "never": "loses at any rate",
    "crosses": "wins below",
    "silent": "wins while layers are silent",
}


@dataclass(frozen=True)
class ModelView:
    """One model of energy.

    Attributes:
        name: as the report spells it.
        title: in words.
        hardware: whose constants it has; "" of models of effort.
        source: of its formulas.
        unit: of its costs.
        verdict: the spiking network against its twin, and what would have to change.
        details: against the ANN, and by layer.
        components: cost by component and network.
        break_even: against the twin and the 8-bit ANN.
    """

    name: str
    title: str
    hardware: str
    source: str
    unit: str
    verdict: tuple[str, ...]
    details: tuple[str, ...]
    components: Table
    break_even: Table


def totals_by_model(account: EnergyAccount) -> Table:
    """Totals of the five networks by model, each with its ratio to the twin."""
    heads = (Column("model", text=True), *(Column(title) for title in NETWORKS.values()))
    rows = tuple((Cell(f"{item.title} ({item.unit})" if item.unit != "pJ" else item.title), *_totals(item))
                 for item in account.models)  # fmt: skip
    return Table("totals for one image, and their ratio to the twin", heads, rows)


def model_views(account: EnergyAccount) -> tuple[ModelView, ...]:
    """All models."""
    return tuple(_view(item, account.hardware) for item in account.models)


def _totals(result: ModelResult) -> tuple[Cell, ...]:
    totals = {name: item.total for name, item in result.totals.items()}
    return tuple(
        Cell(cost(totals[name], result.unit), totals[name], times(ratio(totals[name], totals[_TWIN])))
        for name in NETWORKS
    )


def _view(result: ModelResult, hardware: str) -> ModelView:
    where = hardware if result.unit == "pJ" else ""
    prefix = f"{result.title} ({hardware}): " if where else f"{result.title}: "
    sentences = [_sentence(line.removeprefix(prefix)) for line in result.verdict]
    return ModelView(
        name=result.model,
        title=result.title,
        hardware=where,
        source=result.source,
        unit=result.unit,
        verdict=tuple(sentences[0::2]),
        details=tuple(sentences[1::2]),
        components=_components(result),
        break_even=_break_even(result),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _components(result: ModelResult) -> Table:
    used = [name for name in COMPONENTS if any(getattr(item, name) for item in result.totals.values())]
    heads = (Column("network", text=True), *(Column(COMPONENTS[name]) for name in used), Column("total"))
    rows = []
    for network, title in NETWORKS.items():
        item = result.totals[network]
        values = [*(getattr(item, name) for name in used), item.total]
        rows.append((Cell(title), *(Cell(cost(value, result.unit), value) for value in values)))
    return Table(f"{result.title}: cost by component", heads, tuple(rows))


def _break_even(result: ModelResult) -> Table:
    heads = (
        Column("SNN bit by bit against", text=True),
        Column("outcome", text=True),
        Column("share of ones", "of the bits sent, at which both cost the same"),
        Column("measured", "the network's own share of ones"),
        Column("most steps", "most binary steps of a window with which it wins at the measured rates"),
    )
    rows = tuple(_even(name, result.break_even[name]) for name in NETWORKS if name in result.break_even)
    return Table(f"{result.title}: break-even", heads, rows)


def _even(name: str, even: BreakEven) -> tuple[Cell, ...]:
    steps = ABSENT if even.most_steps is None else str(even.most_steps)
    return (
        Cell(NETWORKS[name]),
        Cell(_OUTCOMES[even.outcome]),
        Cell(percent(even.rate)),
        Cell(percent(even.measured_rate)),
        Cell(steps),
    )
