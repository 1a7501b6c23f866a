"""Checkpoints of a training run: everything it takes to go on as if it had never stopped."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from snnconvert.artifact.atomic import replaced_file
from snnconvert.errors import ArtifactError, first_line

CHECKPOINT_VERSION = 1
NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        folder: of the run.
        state: tensors and plain values.

    Raises:
        InputError: if it can't be written.
    """
    with replaced_file(folder / NAME) as path:
        torch.save({"version": CHECKPOINT_VERSION, **state}, path)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The checkpoint in a folder, None if there is none; nothing in it is executed.

    Raises:
        ArtifactError: if it is damaged or of another version.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} is damaged: {first_line(error)}") from None
    if not isinstance(state, dict) or state.get("version") != CHECKPOINT_VERSION:
        raise ArtifactError(f"{path} is no checkpoint of version {CHECKPOINT_VERSION}: start anew in another folder")
    return state


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The names of settings in which a run and one that is to go on differ, or which only one of them has."""
    return sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
