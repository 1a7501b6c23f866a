"""Built models on disk, found by what they were built from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import fx

from snnconvert.artifact.atomic import replaced_file
from snnconvert.artifact.graph_codec import graph_tensors, graph_to_json

_VARIABLE = "SNNCONVERT_CACHE"


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


class ContentCache:
    """Files by key, each with its checksum in front."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> bytes | None:
        """What is stored under a key; None if nothing is, or it is damaged."""
        try:
            stored = (self._folder / f"{key}.onnx").read_bytes()
        except OSError:
            return None
        digest, content = stored[:32], stored[32:]
        return content if hashlib.sha256(content).digest() == digest else None

    def write(self, key: str, content: bytes) -> bool:
        """Stores something, whole or not at all; False where the folder can't be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replaced_file(self._folder / f"{key}.onnx", force=True) as path:
                path.write_bytes(hashlib.sha256(content).digest() + content)
        except OSError:
            return False
        return True
