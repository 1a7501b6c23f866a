"""Two reports side by side, as tables and sentences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from snnconvert.energy.cost import Network
from snnconvert.report.comparison import Comparison, Difference, LayerDifference
from snnconvert.report.view.energies import NETWORKS
from snnconvert.report.view.layers import widths
from snnconvert.report.view.numbers import ABSENT, cost, decimal, energy, percent, points, ratio, short, times
from snnconvert.report.view.parts import Cell, Column, Table
from snnconvert.report.view.totals import TOTALS, spelled_total

_HEADLINE: dict[str, tuple[str, Callable[[float], str], Callable[[float], str]]] = {
    "accuracy": ("Accuracy", lambda value: percent(value, 2), lambda value: f"{points(value)} points"),
    "top1_agreement": ("Decisions that are the ANN's", lambda value: percent(value, 2),
                       lambda value: f"{points(value)} points"),
    "logit_sqnr_db": ("Output SQNR", lambda value: f"{decimal(value, 1)} dB",
                      lambda value: f"{value:+.1f} dB".replace("-", "−")),
    "macs_on_spikes": ("Work done on spikes", lambda value: percent(value, 2), lambda value: f"{points(value)} points"),
}  # fmt: skip


def _spelled(name: str) -> tuple[str, Callable[[float], str], Callable[[float], str]]:
    """How a figure of the headline is written: a metric of another task than classification by its own name."""
    return _HEADLINE.get(name) or (name, *_HEADLINE["accuracy"][1:])


def headline_comparison(comparison: Comparison) -> Table:
    """Accuracy, fidelity and coverage."""
    rows = tuple(_headline_row(item, comparison) for item in comparison.headline)
    return Table("headline", _heads(comparison, "", ratios=False), rows)


def totals_comparison(comparison: Comparison) -> Table:
    """Budgets and operations."""
    kinds = {field: (name, kind) for field, name, kind, _ in TOTALS}
    rows = tuple(
        _row(kinds[item.name][0], item, comparison, partial(spelled_total, kinds[item.name][1]))
        for item in comparison.totals
    )
    return Table("totals for one image", _heads(comparison, ""), rows)


def energy_comparisons(comparison: Comparison) -> tuple[Table, ...]:
    """One table a model, with a row for each of the five networks."""
    return tuple(_energies(model, comparison) for model in comparison.units)


def layer_comparison(comparison: Comparison) -> Table:
    """Layers that differ: widths, rate, SQNR and energy of both."""
    titles = ("b_w/b_s/T", "BB", "rate", "SQNR dB", "E bit by bit", "ratio")
    heads = (Column("layer", text=True), *map(Column, titles))
    name = f"layers that differ, {comparison.names[0]} → {comparison.names[1]}"
    return Table(name, heads, tuple(map(_layer_row, comparison.layers)))


def sentences(comparison: Comparison) -> tuple[str, ...]:
    """Which network is better at what, which layers are only in one, and what keeps figures from being comparable."""
    lines = [_better(comparison, "first"), _better(comparison, "second")]
    lines.append(f"Layers that differ: {len(comparison.layers)}; that are the same: {comparison.same_layers}.")
    for name, layers in zip(comparison.names, (comparison.only_first, comparison.only_second), strict=True):
        if layers:
            lines.append(f"Only in {name}: {', '.join(layers)}.")
    return (*lines, *(f"Note: {note}." for note in comparison.notes))


def _better(comparison: Comparison, side: str) -> str:
    name = comparison.names[0 if side == "first" else 1]
    totals = {field: title for field, title, *_ in TOTALS if not field.startswith("input_layer")}
    better = [_spelled(item.name)[0] for item in comparison.headline if item.better == side]
    better += [totals[item.name] for item in comparison.totals if item.better == side and item.name in totals]
    serial = [
        model
        for model, items in comparison.energies.items()
        for item in items
        if item.name == Network.SNN_SERIAL.value and item.better == side
    ]
    if serial:
        better.append(f"SNN bit by bit by the models {', '.join(serial)}")
    return f"{name} is better at: {'; '.join(better)}." if better else f"{name} is better at nothing that is compared."


def _heads(comparison: Comparison, title: str, *, ratios: bool = True) -> tuple[Column, ...]:
    one, two = comparison.names
    apart = (Column("ratio", f"{two} / {one}"),) if ratios else (Column("difference", f"{two} − {one}"),)
    return (Column(title, text=True), Column(one), Column(two), *apart, Column("better", text=True))


def _row(name: str, item: Difference, comparison: Comparison, spelled: Callable[[float], str]) -> tuple[Cell, ...]:
    return (*_values(name, item, spelled), Cell(times(item.ratio)), _winner(item, comparison))


def _headline_row(item: Difference, comparison: Comparison) -> tuple[Cell, ...]:
    name, spelled, apart = _spelled(item.name)
    difference = ABSENT if item.difference is None else apart(item.difference)
    return (*_values(name, item, spelled), Cell(difference), _winner(item, comparison))


def _values(name: str, item: Difference, spelled: Callable[[float], str]) -> tuple[Cell, ...]:
    return (Cell(name), *(Cell(ABSENT if value is None else spelled(value)) for value in (item.first, item.second)))


def _winner(item: Difference, comparison: Comparison) -> Cell:
    return Cell("" if item.better is None else comparison.names[0 if item.better == "first" else 1])


def _energies(model: str, comparison: Comparison) -> Table:
    unit = comparison.units[model]
    name = comparison.titles[model] if unit == "pJ" else f"{comparison.titles[model]}, in {unit}"
    rows = tuple(
        _row(NETWORKS[item.name], item, comparison, partial(cost, unit=unit)) for item in comparison.energies[model]
    )
    return Table(name, _heads(comparison, "network"), rows)


def _layer_row(item: LayerDifference) -> tuple[Cell, ...]:
    one, two = item.first, item.second
    serial = item.first_costs[Network.SNN_SERIAL.value], item.second_costs[Network.SNN_SERIAL.value]
    return (
        Cell(item.name),
        _both(widths(one), widths(two)),
        _both(short(one.bit_budget), short(two.bit_budget)),
        _both(percent(one.firing_rate), percent(two.firing_rate)),
        _both(decimal(one.sqnr_db, 1), decimal(two.sqnr_db, 1)),
        _both(energy(serial[0]), energy(serial[1])),
        Cell(times(ratio(serial[1], serial[0]))),
    )


def _both(first: str, second: str) -> Cell:
    return Cell(first if first == second else f"{first} → {second}")
