"""Built models on disk, found by what they were built from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx

from snnconvert.artifact.atomic import replaced_folder
from snnconvert.artifact.checksum import file_checksum
from snnconvert.artifact.graph_codec import graph_tensors, graph_to_json
from snnconvert.errors import InputError

_VARIABLE = "SNNCONVERT_CACHE"
_MODEL, _ABOUT = "model.onnx", "about.json"
_CHECKSUM, _FACTS = "sha256", "facts"


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
        path: of its file.
        facts: numbers kept beside it.
    """

    path: Path
    facts: Mapping[str, int]


class ContentCache:
    """Models by key, each in a folder of its own with its checksum and what is known of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Stored | None:
        """What is stored under a key; None if nothing is, or it is damaged."""
        try:
            about = json.loads((self._folder / key / _ABOUT).read_text(encoding="utf-8"))
            stored = Stored(self._folder / key / _MODEL, {name: int(value) for name, value in about[_FACTS].items()})
            return stored if file_checksum(stored.path) == about[_CHECKSUM] else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, key: str, model: bytes, facts: Mapping[str, int]) -> Path | None:
        """Stores a model, whole or not at all; None where the folder can't be written."""
        about = {_CHECKSUM: hashlib.sha256(model).hexdigest(), _FACTS: dict(facts)}
        try:
            with replaced_folder(self._folder / key, force=True) as folder:
                (folder / _MODEL).write_bytes(model)
                (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        except (OSError, InputError):
            return None
        return self._folder / key / _MODEL
