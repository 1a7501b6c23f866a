"""Tables in Markdown, and pages whose tables a command writes anew between two marks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from snnconvert.artifact.atomic import replaced_file


def table_lines(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table."""
    names = list(header)
    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *body)]


def replace_block(page: Path, name: str, lines: Iterable[str]) -> None:
    """Writes the lines between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` of a page, at its end if it has none.

    Args:
        page: the file; a new one if there is none.
        name: the block.
        lines: what it shall hold.

    Raises:
        ValueError: if one mark is there without the other, or one of them twice.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    block = "\n".join([begin, "", *lines, "", end])
    if old.count(begin) == old.count(end) == 0:
        new = f"{old.rstrip()}\n\n{block}\n".lstrip()
    elif old.count(begin) == old.count(end) == 1 and old.index(begin) < old.index(end):
        new = old[: old.index(begin)] + block + old[old.index(end) + len(end) :]
    else:
        raise ValueError(f"{page} needs one line {begin} and one line {end} below it")
    with replaced_file(page) as file:
        file.write_text(new, encoding="utf-8")
