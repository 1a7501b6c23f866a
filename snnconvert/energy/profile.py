"""Hardware profiles: tables of constants for every model, shipped or the user's own."""

from __future__ import annotations

import dataclasses
import importlib.resources
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snnconvert.energy.counting import CountingConstants, OperationCounting
from snnconvert.energy.effort import NeuromorphicEffort, SynapticEffort
from snnconvert.energy.hierarchy import HierarchyConstants, MemoryHierarchy, NeuromorphicDataflow, SpatialDataflow
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.twin import TwinConstants, TwinModel
from snnconvert.errors import ConfigurationError, InputError, first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "snnconvert.hardware/1"
DEFAULT_PROFILE = "cmos45"
_HEAD = ("schema", "name", "description")
_TABLES = ("counting", "hierarchy", "twin")
_ENDING = ".toml"


@dataclass(frozen=True)
class HardwareProfile:
    """Constants for every model of energy.

    Attributes:
        name: as reports spell it.
        description: what it stands for, and where its numbers are from.
        counting: of plain operation counting.
        hierarchy: of memory hierarchy, spatial and neuromorphic dataflow.
        twin: of the twin model.
    """

    name: str
    description: str = ""
    counting: CountingConstants = field(default_factory=CountingConstants)
    hierarchy: HierarchyConstants = field(default_factory=HierarchyConstants)
    twin: TwinConstants = field(default_factory=TwinConstants)

    def models(self) -> tuple[EnergyModel, ...]:
        """All models with these constants; effort in bit pairs knows no hardware."""
        return (
            OperationCounting(self.counting),
            MemoryHierarchy(self.hierarchy),
            SpatialDataflow(self.hierarchy),
            NeuromorphicDataflow(self.hierarchy),
            TwinModel(self.twin),
            SynapticEffort(),
            NeuromorphicEffort(),
        )

    def tables(self) -> dict[str, dict[str, float | str]]:
        """All constants, by table."""
        return {name: dataclasses.asdict(getattr(self, name)) for name in _TABLES}


def shipped_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    folder = importlib.resources.files("snnconvert.energy") / "profiles"
    return tuple(sorted(entry.name[: -len(_ENDING)] for entry in folder.iterdir() if entry.name.endswith(_ENDING)))


def load_profile(name: str | Path = DEFAULT_PROFILE) -> HardwareProfile:
    """A shipped profile by its name, or the user's own by its path (.toml).

    Raises:
        InputError: if there is no such profile, or the file can't be read.
        ConfigurationError: if a constant is missing, unknown or out of range, naming table and constant.
    """
    if str(name).endswith(_ENDING):
        return _parsed(_read(Path(name)), str(name))
    if str(name) not in shipped_profiles():
        raise InputError(
            f"no hardware profile is called {str(name)!r}: there are {', '.join(shipped_profiles())}; "
            "or give a .toml file"
        )
    shipped = importlib.resources.files("snnconvert.energy") / "profiles" / f"{name}{_ENDING}"
    return _parsed(shipped.read_text(encoding="utf-8"), str(name))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the hardware profile can't be read: {first_line(error)}") from None


def _parsed(text: str, where: str) -> HardwareProfile:
    try:
        data: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: no valid TOML: {first_line(error)}") from None
    unknown = sorted(set(data) - {*_HEAD, *_TABLES})
    if unknown:
        raise ConfigurationError(f"{where}: unknown entry {unknown[0]!r} (there are {', '.join((*_HEAD, *_TABLES))})")
    missing = [name for name in (*_HEAD, *_TABLES) if name not in data]
    if missing:
        raise ConfigurationError(f"{where}: {missing[0]} is missing")
    if data["schema"] != SCHEMA:
        raise ConfigurationError(f"{where}: schema {data['schema']!r} is not {SCHEMA!r}")
    for head in ("name", "description"):
        if not isinstance(data[head], str) or not data[head].strip():
            raise ConfigurationError(f"{where}: {head} must be some text, got {data[head]!r}")
    for table in _TABLES:
        if not isinstance(data[table], dict):
            raise ConfigurationError(f"{where}: {table} must be a table, got {data[table]!r}")
    return HardwareProfile(
        name=data["name"],
        description=data["description"],
        counting=CountingConstants.from_table(data["counting"], f"{where}, {_TABLES[0]}"),
        hierarchy=HierarchyConstants.from_table(data["hierarchy"], f"{where}, {_TABLES[1]}"),
        twin=TwinConstants.from_table(data["twin"], f"{where}, {_TABLES[2]}"),
    )
