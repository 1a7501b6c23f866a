"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snnconvert.errors import InputError


def check_target(directory: Path, *, force: bool) -> None:
    """Refuses a target that exists and isn't an empty folder, unless it may be replaced.

    Raises:
        InputError: naming the folder and the way out.
    """
    try:
        _check_path(directory)
    except OSError as error:
        raise InputError(f"{directory} can't be written: {error.strerror}") from None
    if any(directory.resolve() in (place, *place.parents) for place in (Path.cwd(), Path.home())):
        raise InputError(f"{directory} holds the working or home directory: choose another output folder")
    if directory.is_dir() and any(directory.iterdir()) and not force:
        raise InputError(f"{directory} is not empty: choose another output folder, or replace it with --force")


def _check_path(directory: Path) -> None:
    if directory.is_symlink():
        raise InputError(f"{directory} is a symbolic link: choose another output folder")
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} exists and is not a folder: choose another output folder")
    parent = next(place for place in directory.absolute().parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{directory} can't be written: {parent} is no folder you may write to")


@contextmanager
def replaced_folder(directory: Path, *, force: bool) -> Iterator[Path]:
    """Gives an empty folder to write to, which takes the target's place when the block ends well.

    If the block raises, the target is as it was. A folder that is replaced is moved aside first and
    deleted last, so the old content is on disk until the new one is in place.

    Args:
        directory: the target.
        force: replace a target that isn't empty.

    Raises:
        InputError: as :func:`check_target`, or if the folder can't be created.
    """
    check_target(directory, force=force)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent))
    except OSError as error:
        raise InputError(f"{directory} can't be written: {error.strerror}") from None
    try:
        yield staging
        staging.chmod(0o755)
        _swap(staging, directory)
    except OSError as error:
        raise InputError(f"{directory} can't be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replaced_file(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Gives the path of an empty file to write to, which takes the target's place when the block ends well.

    Args:
        path: the target; folders that are missing are made.
        force: replace a file that exists.

    Raises:
        InputError: if the file exists and may not be replaced, or can't be written.
    """
    if path.exists() and not force:
        raise InputError(f"{path} exists: choose another file, or replace it with --force")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.new-", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from None
    try:
        yield Path(name)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _swap(staging: Path, directory: Path) -> None:
    if not directory.exists():
        staging.rename(directory)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old-", dir=directory.parent))
    try:
        directory.rename(aside / "old")
        try:
            staging.rename(directory)
        except OSError:
            (aside / "old").rename(directory)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
