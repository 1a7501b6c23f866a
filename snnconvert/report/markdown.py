"""Reports as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from snnconvert.report.report import Report
from snnconvert.report.view.energies import totals_by_model
from snnconvert.report.view.headline import energy_sentences, facts, subtitle_of, title_of
from snnconvert.report.view.layers import layer_table
from snnconvert.report.view.parts import Cell, Curve, Table
from snnconvert.report.view.remainder import allocation_sentence, allocation_table, analog_groups
from snnconvert.report.view.reproduce import command_line
from snnconvert.report.view.totals import totals_table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def markdown_text(report: Report, curves: Sequence[Curve] = ()) -> str:
    """Headline, totals, energies and layers, with tables as GitHub reads them.

    Args:
        report: the report.
        curves: what was measured apart from the conversion; their points are given.
    """
    parts = [
        f"# {escaped(title_of(report))}",
        escaped(subtitle_of(report)),
        "\n".join(f"- {item.name}: **{escaped(item.value)}** ({escaped(item.note)})" for item in facts(report)),
        *map(escaped, energy_sentences(report)),
        *(f"Note: {escaped(note)}" for note in report.notes),
        "## Budgets and operations",
        markdown_table(totals_table(report.totals)),
        "## Energy",
        f"For one image; hardware: {escaped(report.energy.hardware)}. Ratios are to the twin QNN.",
        markdown_table(totals_by_model(report.energy)),
        "## Layers",
        markdown_table(layer_table(report)),
        "## What stays analog",
        _analog(report),
        *_allocation(report),
        *_curves(curves),
        *_origin(report),
    ]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table; columns of numbers are aligned to the right."""
    heads = [escaped(column.title) for column in table.columns]
    rule = [":--" if column.text else "--:" for column in table.columns]
    return "\n".join(map(_row, [heads, rule, *([_cell(cell) for cell in row] for row in table.rows)]))


def escaped(text: str) -> str:
    """A text without what Markdown or HTML would take for more than text."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return escaped(f"{cell.text} ({cell.note})" if cell.note else cell.text)


def _analog(report: Report) -> str:
    groups = analog_groups(report)
    if not groups:
        return "Nothing: every layer computes with spikes and integers."
    return "\n".join(
        f"- {len(group.names)} × {escaped(group.op)}: {escaped(group.reason)} ({escaped(', '.join(group.names))})"
        for group in groups
    )


def _allocation(report: Report) -> list[str]:
    if report.allocation is None:
        return []
    text = allocation_sentence(report.allocation)
    return ["## Allocation of widths", escaped(text), markdown_table(allocation_table(report.allocation))]


def _curves(curves: Sequence[Curve]) -> list[str]:
    blocks = ([f"## {curve.title}", escaped(curve.sentence), markdown_table(curve.table)] for curve in curves)
    return [part for block in blocks for part in block]


def _origin(report: Report) -> list[str]:
    command = command_line(report)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", command)), 0)
    parts = ["## To reproduce it"]
    parts += [f"{fence}sh\n{command}\n{fence}"] if command else []
    parts += [escaped(report.data)] if report.data else []
    return [*parts, escaped(", ".join(f"{name} {version}" for name, version in report.versions.items()))]
