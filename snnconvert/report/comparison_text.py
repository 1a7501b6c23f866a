"""Comparisons as plain text, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable

from snnconvert.report.comparison import Comparison
from snnconvert.report.html.rendering import render
from snnconvert.report.markdown import escaped, markdown_table
from snnconvert.report.text import format_table
from snnconvert.report.view.comparison import (
    energy_comparisons,
    headline_comparison,
    layer_comparison,
    sentences,
    totals_comparison,
)
from snnconvert.report.view.parts import Table


def comparison_text(comparison: Comparison) -> str:
    """Tables for a terminal."""
    parts = [" against ".join(comparison.names), *_tables(comparison, lambda name: f"{name}:", _plain_table)]
    return "\n\n".join([*parts, "\n".join(sentences(comparison))])


def comparison_markdown(comparison: Comparison) -> str:
    """Tables as GitHub reads them."""
    title = f"# {escaped(' against '.join(comparison.names))}"
    lines = "\n".join(f"- {escaped(line)}" for line in sentences(comparison))
    tables = _tables(comparison, lambda name: f"## {escaped(name[:1].upper() + name[1:])}", markdown_table)
    return "\n\n".join([title, lines, *tables]) + "\n"


def comparison_page(comparison: Comparison) -> str:
    """One HTML file that needs no other and no network."""
    return render(
        "compare.html.jinja",
        names=comparison.names,
        hardware=comparison.hardware,
        sentences=sentences(comparison),
        headline=headline_comparison(comparison),
        totals=totals_comparison(comparison),
        energies=energy_comparisons(comparison),
        layers=layer_comparison(comparison) if comparison.layers else None,
    )


def _tables(comparison: Comparison, titled: Callable[[str], str], written: Callable[[Table], str]) -> list[str]:
    tables = [headline_comparison(comparison), totals_comparison(comparison), *energy_comparisons(comparison)]
    tables += [layer_comparison(comparison)] if comparison.layers else []
    return [part for table in tables for part in (titled(table.name), written(table))]


def _plain_table(table: Table) -> str:
    return format_table([column.title for column in table.columns], [[cell.text for cell in row] for row in table.rows])
