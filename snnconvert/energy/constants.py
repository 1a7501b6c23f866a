"""Named constants of a model: numbers that must make sense, each with its unit in its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from snnconvert.errors import ConfigurationError

_Kind = TypeVar("_Kind", bound="Constants")


@dataclass(frozen=True)
class Constants:
    """Base of every table of constants: refuses what isn't a finite number of at least 0.

    Raises:
        ConfigurationError: naming the constant.
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not isinstance(item.default, str) and not (is_number and 0 <= value < math.inf):
                raise ConfigurationError(f"{item.name} must be a number from 0 up, got {value!r}")

    @classmethod
    def from_table(cls: type[_Kind], table: Mapping[str, Any], where: str) -> _Kind:
        """Reads a table in which every constant is named, and nothing else.

        Args:
            table: names and numbers.
            where: the table's own name, for errors.

        Raises:
            ConfigurationError: if a constant is missing, unknown or out of range.
        """
        names = [item.name for item in fields(cls)]
        unknown, missing = sorted(set(table) - set(names)), [name for name in names if name not in table]
        if unknown:
            raise ConfigurationError(f"{where}: unknown constant {unknown[0]!r} (there are {', '.join(names)})")
        if missing:
            raise ConfigurationError(f"{where}: {missing[0]} is missing")
        try:
            return cls(**table)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from None
