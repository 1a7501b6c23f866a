"""Logs of a training run."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from snnconvert.errors import ConfigurationError


class Log(Protocol):
    """Takes numbers by step."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of one step."""

    def close(self) -> None:
        """Ends the log."""


class CsvLog:
    """One row a step in a .csv file whose first row names the columns; going on, it drops rows of later steps."""

    def __init__(self, path: Path, first_step: int = 0) -> None:
        """Opens the file.

        Args:
            path: the file.
            first_step: rows of this step and later ones are dropped.
        """
        self._path = path
        rows = [row for row in _rows(path) if int(row["step"]) < first_step] if first_step else []
        self._columns = list(rows[0]) if rows else []
        self._file = path.open("w", newline="", encoding="utf-8")
        if rows:
            self._begin(rows)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; a column that is new is empty in the rows before."""
        row = {"step": str(step), **{name: f"{value:.8g}" for name, value in values.items()}}
        new = [name for name in row if name not in self._columns]
        if new:
            before = _rows(self._path)
            self._columns += new
            self._file.seek(0)
            self._file.truncate()
            self._begin(before)
        self._writer().writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _begin(self, rows: Sequence[Mapping[str, str]]) -> None:
        self._writer().writeheader()
        self._writer().writerows(rows)
        self._file.flush()

    def _writer(self) -> csv.DictWriter[str]:
        return csv.DictWriter(self._file, self._columns, restval="", lineterminator="\n")


class TensorBoardLog:
    """Scalars for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder.

        Raises:
            ConfigurationError: if TensorBoard isn't installed.
        """
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigurationError(
                "logs for TensorBoard need its package: pip install 'snnconvert[tensorboard]'"
            ) from None
        self._writer: Any = SummaryWriter(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of one step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._writer.close()


class Logs:
    """Several logs at once; a context that closes them."""

    def __init__(self, *logs: Log) -> None:
        self._logs = logs

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes to all of them."""
        for log in self._logs:
            log.write(step, values)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self._logs:
            log.close()


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
