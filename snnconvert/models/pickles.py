"""Looks into a pickled checkpoint without unpickling: which code it asks for, and who wrote it."""

from __future__ import annotations

import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_HARMLESS = ("collections.OrderedDict", "argparse.Namespace")
_MODULES = "torch.nn.modules."


@dataclass(frozen=True)
class PickleScan:
    """What a file's pickle opcodes say.

    Attributes:
        globals: Qualified names of the classes and functions it asks for.
        foreign: Whether it is a complete pickle that `torch.save` didn't write.
        torchscript: Whether it is a compiled module.
    """

    globals: tuple[str, ...]
    foreign: bool = False
    torchscript: bool = False

    @property
    def code(self) -> tuple[str, ...]:
        """The names that weights have no need of."""
        return tuple(name for name in self.globals if _is_code(name))

    @property
    def whole_module(self) -> bool:
        """Whether it asks for layers, so that it holds a network and not only its weights."""
        return any(name.startswith(_MODULES) for name in self.globals)


def scan_pickle(path: Path) -> PickleScan:
    """Reads the pickle opcodes of a file; nothing is executed or imported.

    Args:
        path: A file of any content.

    Returns:
        What was found up to the end of the pickles, or to where the file is damaged.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _scan_stream(file)
    try:
        with zipfile.ZipFile(path) as archive:
            names: list[str] = []
            members = archive.namelist()
            for member in members:
                if member.endswith("data.pkl"):
                    with archive.open(member) as file:
                        names.extend(_scan_stream(file).globals)
            return PickleScan(tuple(names), torchscript=any(m.endswith("/constants.pkl") for m in members))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return PickleScan(())


def _scan_stream(file: IO[bytes]) -> PickleScan:
    names: list[str] = []
    strings: list[str] = []
    foreign = first = True
    try:
        # torch.save's older format is a row of pickles that starts with a magic number.
        while True:
            for opcode, argument, _ in pickletools.genops(file):
                if isinstance(argument, str) and opcode.name != "GLOBAL":
                    strings.append(argument)
                elif opcode.name == "GLOBAL":
                    names.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif first and argument == _TORCH_MAGIC:
                    foreign = False
            first = False
    except (ValueError, EOFError, OSError, IndexError, OverflowError, MemoryError):
        return PickleScan(tuple(names), foreign=foreign and not first)


def _is_code(name: str) -> bool:
    return name not in _HARMLESS and (not name.startswith("torch.") or name.startswith(_MODULES))
