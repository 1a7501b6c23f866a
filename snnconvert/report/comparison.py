"""Two reports side by side: what differs, by how much, and which network is better at what."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from snnconvert.energy.cost import Cost, Network
from snnconvert.report.report import Report
from snnconvert.report.schema import LayerReport, Metric
from snnconvert.report.statistics import proportion_ci95
from snnconvert.report.view.layer_energy import layer_costs
from snnconvert.report.view.totals import TOTALS

SCHEMA = "snnconvert.comparison/1"
Side = Literal["first", "second"]
_ACCURACY = "top1"
_UNJUDGED = ("macs", "ann_operations", "integer_operations", "spikes_per_neuron")
_ORIGINALS = (Network.ANN_FLOAT32.value, Network.ANN_INT8.value)
_LAYER_FIGURES = (
    "weight_bits", "spike_bits", "T", "bit_budget", "macs", "s_ace", "ns_ace", "firing_rate", "word_sparsity",
    "bit_sparsity", "synops", "threshold", "step", "sqnr_db",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One figure of two networks.

    Attributes:
        name: the figure's.
        first: of the first network; None where it has none.
        second: of the second.
        difference: second − first.
        ratio: second / first; None where that means nothing.
        better: who has the better one; None where they are alike, where shares aren't apart by more than their 95 %
            intervals, or where neither more nor less is better.
    """

    name: str
    first: float | None
    second: float | None
    difference: float | None
    ratio: float | None
    better: Side | None


@dataclass(frozen=True)
class LayerDifference:
    """A layer that both networks have and that isn't the same in both.

    Attributes:
        name: the layer's.
        first: its account in the first network.
        second: in the second.
        first_costs: its energy in pJ by network, twin model.
        second_costs: in the second.
        figures: those that differ.
    """

    name: str
    first: LayerReport
    second: LayerReport
    first_costs: Mapping[str, float]
    second_costs: Mapping[str, float]
    figures: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side.

    Attributes:
        names: of the two.
        hardware: of their energies.
        headline: accuracy, agreement, SQNR and coverage.
        totals: budgets and operations.
        energies: total cost by model and network.
        titles: of the models, in words.
        units: of costs, by model.
        layers: those that differ.
        same_layers: how many don't.
        only_first: layers that the second network doesn't have.
        only_second: layers that the first one doesn't have.
        notes: what keeps figures from being comparable.
    """

    names: tuple[str, str]
    hardware: tuple[str, str]
    headline: tuple[Difference, ...]
    totals: tuple[Difference, ...]
    energies: Mapping[str, tuple[Difference, ...]]
    titles: Mapping[str, str]
    units: Mapping[str, str]
    layers: tuple[LayerDifference, ...]
    same_layers: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The JSON-able form without the table of layers."""
        values = self.to_dict()
        del values["layers"]
        return {**values, "different_layers": len(self.layers)}

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form; the schema comes first, and of layers there are the figures that differ."""
        layers = {item.name: [dataclasses.asdict(figure) for figure in item.figures] for item in self.layers}
        return {"schema": SCHEMA, **dataclasses.asdict(dataclasses.replace(self, layers=())), "layers": layers}


def compare_reports(first: Report, second: Report, names: tuple[str, str] = ("first", "second")) -> Comparison:
    """Compares two reports; layers are matched by their names.

    Args:
        first: one report.
        second: the other.
        names: what the two are called.
    """
    costs = {model.model: model for model in second.energy.models}
    layers, same, only_first, only_second = _layers(first, second)
    return Comparison(
        names=names,
        hardware=(first.energy.hardware, second.energy.hardware),
        headline=_headline(first, second),
        totals=tuple(
            _difference(field, getattr(first.totals, field), getattr(second.totals, field), _less(field))
            for field, *_ in TOTALS
        ),
        energies={
            model.model: tuple(
                _cost(name, cost, costs[model.model].totals[name]) for name, cost in model.totals.items()
            )
            for model in first.energy.models
            if model.model in costs
        },
        titles={model.model: model.title for model in first.energy.models if model.model in costs},
        units={model.model: model.unit for model in first.energy.models if model.model in costs},
        layers=layers,
        same_layers=same,
        only_first=only_first,
        only_second=only_second,
        notes=tuple(_notes(first, second)),
    )


def _difference(name: str, first: float | None, second: float | None, less_is_better: bool | None) -> Difference:
    if first is None or second is None:
        return Difference(name, first, second, None, None, None)
    better: Side | None = None
    if less_is_better is not None and first != second:
        better = "first" if (first < second) == less_is_better else "second"
    return Difference(name, first, second, second - first, second / first if first else None, better)


def _cost(name: str, first: Cost, second: Cost) -> Difference:
    return _difference(name, first.total, second.total, None if name in _ORIGINALS else True)


def _less(field: str) -> bool | None:
    return None if field in _UNJUDGED else True


def _headline(first: Report, second: Report) -> tuple[Difference, ...]:
    agreements = [
        None if report.fidelity.top1_agreement is None else (report.fidelity.top1_agreement, report.fidelity.images)
        for report in (first, second)
    ]
    fidelities = first.fidelity.logit_sqnr_db, second.fidelity.logit_sqnr_db
    return (
        _metric(first.metric, second.metric),
        _shares("top1_agreement", *agreements),
        _difference("logit_sqnr_db", *fidelities, False),
        _difference("macs_on_spikes", first.coverage.macs_on_spikes, second.coverage.macs_on_spikes, False),
    )


def _metric(first: Metric | None, second: Metric | None) -> Difference:
    """Of accuracies one may be better; of other metrics two values alone don't tell."""
    name = next((metric.name for metric in (first, second) if metric is not None), _ACCURACY)
    if name == _ACCURACY:
        pairs = [None if metric is None else (metric.snn, metric.images) for metric in (first, second)]
        return _shares("accuracy", pairs[0], pairs[1])
    values = [None if metric is None or metric.name != name else metric.snn for metric in (first, second)]
    return _difference(name, values[0], values[1], None)


def _shares(name: str, first: tuple[float, int] | None, second: tuple[float, int] | None) -> Difference:
    """Shares of images; one is better only where the two 95 % intervals don't meet."""
    if first is None or second is None:
        return _difference(name, first and first[0], second and second[0], None)
    low, high = _interval(*first), _interval(*second)
    apart = low[1] < high[0] or high[1] < low[0]
    return _difference(name, first[0], second[0], False if apart else None)


def _interval(share: float, images: int) -> tuple[float, float]:
    return proportion_ci95(round(share * images), max(images, 1))


def _layers(first: Report, second: Report) -> tuple[tuple[LayerDifference, ...], int, tuple[str, ...], tuple[str, ...]]:
    ours, theirs = _by_name(first), _by_name(second)
    shared = [name for name in ours if name in theirs]
    compared = (_layer(name, *ours[name], *theirs[name]) for name in shared)
    different = tuple(item for item in compared if item.figures or item.first.code != item.second.code)
    return (
        different,
        len(shared) - len(different),
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
    )


def _by_name(report: Report) -> dict[str, tuple[LayerReport, dict[str, float]]]:
    costs = layer_costs(report)
    return {
        layer.name: (layer, {network.value: costs[network][index].total for network in Network})
        for index, layer in enumerate(report.layers)
    }


def _layer(
    name: str, first: LayerReport, ours: Mapping[str, float], second: LayerReport, theirs: Mapping[str, float]
) -> LayerDifference:
    figures = [
        *(_difference(field, getattr(first, field), getattr(second, field), None) for field in _LAYER_FIGURES),
        *(
            _difference(f"energy_{network}_pj", ours[network], theirs[network], None if network in _ORIGINALS else True)
            for network in ours
        ),
    ]
    return LayerDifference(name, first, second, ours, theirs, tuple(_changed(figures)))


def _energy(network: str, first: float, second: float) -> Difference:
    return _difference(f"energy_{network}_pj", first, second, None if network in _ORIGINALS else True)


def _changed(figures: Iterable[Difference]) -> Iterable[Difference]:
    return (item for item in figures if item.first != item.second)


def _notes(first: Report, second: Report) -> Iterable[str]:
    if first.model != second.model:
        yield f"these are different networks: {first.model or 'unnamed'} and {second.model or 'unnamed'}"
    if first.energy.constants != second.energy.constants:
        yield "their energies have different constants and can't be compared: give both the same hardware"
    if (first.fidelity.images, first.data) != (second.fidelity.images, second.data):
        yield "they were measured on different images"
