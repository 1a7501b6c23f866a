"""The plain data a page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One figure of the headline: its name, the figure, and what else to know of it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its heading, what it means, and whether it holds text instead of numbers."""

    title: str
    meaning: str = ""
    text: bool = False


@dataclass(frozen=True)
class Cell:
    """What a table shows in one place.

    Attributes:
        text: what is read.
        order: what rows are sorted by; None, for a value that is missing, comes last.
        note: a second, smaller text.
    """

    text: str
    order: float | str | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells, one for each column.

    Attributes:
        name: what it is a table of.
        columns: its columns.
        rows: its rows.
        marked: indices of rows that stand out.
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    marked: tuple[int, ...] = ()


def words(*texts: str) -> tuple[Cell, ...]:
    """A row of plain texts, which sort as such."""
    return tuple(Cell(text, text) for text in texts)


def columns(*titles: str, text: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns of numbers, but for those named."""
    return tuple(Column(title, text=title in text) for title in titles)


@dataclass(frozen=True)
class Curve:
    """A picture measured apart from the conversion, such as accuracy against time.

    Attributes:
        title: heading.
        sentence: what it shows.
        svg: the picture, an ``<svg>`` element.
        table: its points.
    """

    title: str
    sentence: str
    svg: str
    table: Table
