"""Element-wise work of a network by module: what neurons do to their membranes, and everything else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from snnconvert.report.layer_account import AnalogReport
from snnconvert.report.network.elementwise import plain_name
from snnconvert.report.network.ledger import ModuleRecord
from snnconvert.report.network.timing import Timing

_NAMED = 4


@dataclass(frozen=True)
class ElementWise:
    """Element-wise work.

    Attributes:
        analog: of each module, at full price.
        neurons: names of the modules that fire.
        neuron_operations: theirs, for one image.
    """

    analog: tuple[AnalogReport, ...]
    neurons: tuple[str, ...]
    neuron_operations: int


def element_wise(records: Collection[ModuleRecord], timing: Timing, window: int, network: str) -> ElementWise:
    """Sorts the work of modules.

    Args:
        records: of modules that ran.
        timing: of the network.
        window: T of most layers, how often code that loops over time repeats.
        network: name of the network, for what no module does.
    """
    neurons = [record.name for record in records if record.fires and record.operations]
    inside = {name for record in records if record.name in neurons for name in record.inside}
    outer = tuple(name for name in neurons if name not in inside)
    taken = inside | set(neurons)
    rest = [record for record in records if record.operations and record.name not in taken]
    return ElementWise(
        analog=tuple(_report(record, timing, window, network) for record in rest),
        neurons=outer,
        neuron_operations=round(_total(record for record in records if record.name in taken) / timing.images),
    )


def _total(records: Iterable[ModuleRecord]) -> int:
    return sum(sum(record.operations.values()) for record in records)


def _report(record: ModuleRecord, timing: Timing, window: int, network: str) -> AnalogReport:
    total = round(_total([record]) / timing.images)
    _, shape = max(record.operations, key=lambda key: record.operations[key])
    runs = record.calls * (timing.steps_of(shape) or 1)
    if runs == 1 and record.has_synapses:
        runs = window
    if total % runs:
        runs = 1
    return AnalogReport(
        name=record.name or network,
        op="element-wise",
        reason=f"{_named(sorted({plain_name(name) for name, _ in record.operations}))} of real numbers",
        macs=0,
        operations=total // runs,
        runs=runs,
    )


def _named(operators: list[str]) -> str:
    more = f" and {len(operators) - _NAMED} more" if len(operators) > _NAMED else ""
    return f"{', '.join(operators[:_NAMED])}{more}"
