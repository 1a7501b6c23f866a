"""Aligned columns, short numbers and short names."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table with aligned columns: the first ``left`` columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    lines = [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [headers, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)


def quantity(value: float) -> str:
    """A count with three digits and a decimal prefix: 1.82 G, 640, 12.3 M."""
    for factor, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def shortened(name: str, length: int) -> str:
    """A layer's name in at most ``length`` letters: e.l.3.mlp.relu for encoder.layers.3.mlp.relu, else its end."""
    parts = name.split(".")
    for index in range(len(parts) - 1):
        if len(".".join(parts)) <= length:
            break
        parts[index] = parts[index] if parts[index].isdigit() else parts[index][:1]
    short = ".".join(parts)
    return short if len(short) <= length else f"…{short[len(short) - length + 1 :]}"
