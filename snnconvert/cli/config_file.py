"""Options of a command from a .toml file; those on the command line come on top."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snnconvert.cli.arguments import OneLineParser
from snnconvert.errors import first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OPTION = "--config"


class ConfiguredParser(OneLineParser):
    """A parser with ``--config FILE``: its keys are the names of long options, and ``model`` the network.

    Tables only order them: ``[training]`` with ``epochs = 20`` is ``--epochs 20``. Lists give an option several
    times, or several values; ``true`` is an option alone, ``false`` its ``--no-`` form.
    """

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Reads the options of the file, then those given."""
        given = list(sys.argv[1:] if args is None else args)
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument(OPTION, type=Path)
        found, _ = finder.parse_known_args(given)
        before = [] if found.config is None else list(self._arguments(found.config, given))
        return super().parse_args([*before, *given], namespace)

    def _arguments(self, path: Path, given: Sequence[str]) -> Iterator[str]:
        positional = [action for action in self._actions if not action.option_strings]
        for key, value in _flat(self._read(path)):
            name = key.replace("_", "-")
            if any(action.dest == key for action in positional):
                if not given or given[0].startswith("-"):
                    yield str(value)
                continue
            option = f"--{name}"
            action = self._option_string_actions.get(option)
            if action is None or option == OPTION:
                self.error(f"{path}: there is no option {option}")
            yield from self._spelled(action, option, value, path)

    def _spelled(self, action: argparse.Action, option: str, value: Any, path: Path) -> Iterator[str]:
        if isinstance(value, bool):
            opposite = f"--no-{option[2:]}"
            if value and action.nargs != 0:
                self.error(f"{path}: {option} takes a value, got true")
            if not value and opposite in self._option_string_actions:
                yield opposite
            elif value:
                yield option
        elif action.nargs == 0:
            self.error(f"{path}: {option} is true or false, got {value!r}")
        elif isinstance(value, list):
            if action.nargs in ("+", "*"):
                yield from (option, *map(str, value))
            else:
                for item in value:
                    yield from (option, str(item))
        else:
            yield from (option, str(value))

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
            return table
        except OSError as error:
            self.error(f"{path} can't be read: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.error(f"{path} is no TOML file: {first_line(error)}")


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values of a table and of those in it."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield key.replace("-", "_"), value
