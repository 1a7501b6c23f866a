"""What stays analog and why, and the rounds of an allocation."""

from __future__ import annotations

from dataclasses import dataclass

from snnconvert.report.allocation import Allocation
from snnconvert.report.schema import ReportData
from snnconvert.report.view.numbers import ABSENT, count, decimal, digits, percent, short
from snnconvert.report.view.parts import Cell, Column, Table

_OBJECTIVES = {
    "budget": "the least error at a mean bit budget of at most {}",
    "max_drop": "the smallest bit budget that loses at most {} points",
    "target_energy": "the least error at no more than {} µJ an image in the synapses",
}


@dataclass(frozen=True)
class AnalogGroup:
    """Nodes that stay analog for the same reason.

    Attributes:
        op: their operator.
        reason: why.
        names: their layers.
        work: their multiply-accumulates and operations.
    """

    op: str
    reason: str
    names: tuple[str, ...]
    work: str


def analog_groups(report: ReportData) -> tuple[AnalogGroup, ...]:
    """Nodes by operator and reason, the largest groups first."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for index, item in enumerate(report.analog):
        grouped.setdefault((item.op, item.reason), []).append(index)
    views = [
        AnalogGroup(op, reason, tuple(report.analog[index].name for index in indices), _work(report, indices))
        for (op, reason), indices in grouped.items()
    ]
    return tuple(sorted(views, key=lambda group: -len(group.names)))


def allocation_table(allocation: Allocation) -> Table:
    """One row a round; the one that was kept is marked."""
    heads = (
        Column("round"),
        Column("BB", "mean bit budget"),
        Column("energy", "of the synapses, bit by bit"),
        Column("predicted error", "relative squared error of the output, by sensitivities"),
        Column("measured error", "the same, measured"),
        Column("agreement", "share of decisions that are the ANN's"),
        Column("points lost"),
    )
    rows = tuple(
        (
            Cell(f"{index + 1}{' (kept)' if index == allocation.chosen else ''}"),
            Cell(short(item.bit_budget)),
            Cell(ABSENT if item.energy_uj is None else f"{digits(item.energy_uj)} µJ"),
            Cell(digits(item.predicted_error)),
            Cell(digits(item.measured_error)),
            Cell(percent(item.top1_agreement)),
            Cell(decimal(item.drop, 2)),
        )
        for index, item in enumerate(allocation.rounds)
    )
    return Table("rounds of the allocation", heads, rows, marked=(allocation.chosen,))


def allocation_sentence(allocation: Allocation) -> str:
    """What widths were allocated for."""
    aim = _OBJECTIVES.get(allocation.objective, f"{allocation.objective} {{}}").format(short(allocation.target))
    return (
        f"Time steps, spike bits and weight bits of every layer were chosen for {aim}, by sensitivities measured on "
        f"{allocation.images:,} images; errors are relative squared errors of the output."
    )


def _work(report: ReportData, indices: list[int]) -> str:
    items = [report.analog[index] for index in indices]
    macs, operations = sum(item.macs for item in items), sum(item.operations for item in items)
    parts = [f"{count(macs)} MACs"] if macs else []
    parts += [f"{count(operations)} operations"] if operations else []
    return ", ".join(parts)
