"""What a reader of an account must know: what was inferred, estimated, or left out."""

from __future__ import annotations

from collections.abc import Collection

from snnconvert.report.network.ledger import LayerRecord, Ledger
from snnconvert.report.network.modules import ElementWise
from snnconvert.report.network.timing import Timing

_NAMED = 4


def notes_on(
    ledger: Ledger,
    records: Collection[LayerRecord],
    timing: Timing,
    work: ElementWise,
    silent: Collection[str],
    *,
    is_inferred: bool,
) -> tuple[str, ...]:
    """One sentence each.

    Args:
        ledger: of the run.
        records: of its layers.
        timing: of the network.
        work: its element-wise work.
        silent: names of layers that read no spike.
        is_inferred: whether the steps of the layout were read from the layers' rows.
    """
    found = []
    if is_inferred:
        order = "steps first" if timing.time_first else "images first"
        found.append(
            f"{timing.steps} time steps taken at once, as the rows of the layers say, laid out {order}: give steps= "
            "if that is wrong"
        )
    unmatched = [
        record.name
        for record in records
        if timing.steps_of(record.shape) is None and record.calls > 1 and record.reads is not None
    ]
    if unmatched:
        found.append(
            f"word sparsity estimated as (1 - rate)^T where rows are no multiple of images: {_listed(unmatched)}"
        )
    if silent:
        found.append(f"not a single spike reached {_listed(silent)}: their widths and rates are those of silence")
    constant = sum(record.macs for record in ledger.layers.values() if not record.of_input)
    if constant:
        found.append(f"{constant} multiply-accumulates that depend on parameters alone are not counted")
    if ledger.unread_operators:
        hidden = sorted(f"{operator} in {name}" for operator, name in ledger.unread_operators)
        found.append(f"not counted, its multiply-accumulates can't be seen: {_listed(hidden)}")
    if work.neurons:
        found.append(
            f"{work.neuron_operations} element-wise operations an image update membranes in neuron modules "
            f"({_listed(work.neurons)}); models of energy charge membranes with the layers"
        )
    return tuple(found)


def _listed(names: Collection[str]) -> str:
    listed = list(dict.fromkeys(names))
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{', '.join(listed[:_NAMED])}{more}"
