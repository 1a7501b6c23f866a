"""Rows of results in a JSON file, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnconvert.artifact.atomic import replaced_file

Row = dict[str, Any]


class RowStore:
    """Rows that are told apart by some of their fields; without a file they are only held."""

    def __init__(self, benchmark: str, identity: Sequence[str], path: Path | None) -> None:
        """Reads the file if there is one.

        Args:
            benchmark: the name of the benchmark, which the file bears, too.
            identity: the fields that tell rows apart.
            path: the file.

        Raises:
            ValueError: if the file is no such file.
        """
        self._benchmark, self._identity, self._path = benchmark, tuple(identity), path
        self._rows: dict[str, Row] = {}
        if path is not None and path.is_file():
            for row in _read(path, benchmark):
                self._rows[self._key(row)] = row

    def find(self, row: Row) -> Row | None:
        """The row held that has the same identity.

        Args:
            row: its fields of the identity; others are ignored.
        """
        return self._rows.get(self._key(row))

    def add(self, row: Row) -> None:
        """Takes a row, in place of one of the same identity, and writes the file anew.

        Raises:
            InputError: if the file can't be written.
        """
        self._rows[self._key(row)] = row
        if self._path is None:
            return
        content = {"benchmark": self._benchmark, "rows": list(self._rows.values())}
        with replaced_file(self._path) as file:
            file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _key(self, row: Row) -> str:
        return json.dumps([row.get(field) for field in self._identity], sort_keys=True)


def _read(path: Path, benchmark: str) -> list[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("benchmark") != benchmark:
        raise ValueError(f"{path} holds no rows of the benchmark {benchmark}: choose another file")
    rows: list[Row] = content["rows"]
    return rows
