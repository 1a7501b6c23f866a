"""Built models on disk, found by what they were built from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import fx

from snnconvert.artifact.atomic import replaced_folder
from snnconvert.artifact.checksum import file_checksum
from snnconvert.artifact.graph_codec import graph_tensors, graph_to_json
from snnconvert.engines.integer.model_files import graph_file, write_model
from snnconvert.errors import InputError

_VARIABLE = "SNNCONVERT_CACHE"
_ABOUT, _CHECKSUMS, _FACTS = "about.json", "sha256", "facts"


def default_folder() -> Path:
    """``$SNNCONVERT_CACHE``, else ``snnconvert`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    told = os.environ.get(_VARIABLE)
    if told:
        return Path(told).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "snnconvert"


def content_key(network: fx.GraphModule, others: Sequence[object]) -> str:
    """SHA-256 of a spiking graph, its tensors, and whatever else a build depends on.

    Raises:
        ArtifactError: if the graph holds an operator that has no saved form.
    """
    digest = hashlib.sha256(json.dumps(graph_to_json(network), sort_keys=True).encode())
    for name, tensor in sorted(graph_tensors(network).items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    digest.update(repr(tuple(others)).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Stored:
    """A model in the cache.

    Attributes:
        path: of its graph's file.
        facts: numbers kept beside it.
    """

    path: Path
    facts: Mapping[str, int]


class ContentCache:
    """Models by key, each in a folder of its own with checksums of its files and what is known of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Stored | None:
        """What is stored under a key; None if nothing is, or it is damaged."""
        folder = self._folder / key
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            facts = {name: int(value) for name, value in about[_FACTS].items()}
            names = {file.name for file in folder.iterdir()} - {_ABOUT}
            is_whole = {name: file_checksum(folder / name) for name in names} == about[_CHECKSUMS]
            return Stored(graph_file(folder), facts) if is_whole and names else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, key: str, model: onnx.ModelProto, facts: Mapping[str, int]) -> Path | None:
        """Stores a model, whole or not at all; None where the folder can't be written."""
        try:
            with replaced_folder(self._folder / key, force=True) as folder:
                write_model(model, folder)
                sums = {file.name: file_checksum(file) for file in folder.iterdir()}
                about = {_CHECKSUMS: sums, _FACTS: dict(facts)}
                (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        except (OSError, InputError):
            return None
        return graph_file(self._folder / key)
