"""What commands on reports share: reading them, on the hardware asked for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from snnconvert.artifact.hybrid_store import is_hybrid, load_parts
from snnconvert.energy.profile import HardwareProfile, load_profile, shipped_profiles
from snnconvert.errors import ArtifactError, InputError, first_line
from snnconvert.report.hardware import on_hardware
from snnconvert.report.report import Report

FILE_NAME = "report.json"


def add_hardware(parser: argparse.ArgumentParser) -> None:
    """The option for the hardware of energies."""
    parser.add_argument(
        "--hardware", metavar="NAME|TOML",
        help=f"energies on this hardware instead of the report's: {', '.join(shipped_profiles())}, or a .toml file",
    )  # fmt: skip


def profile_from(options: argparse.Namespace) -> HardwareProfile | None:
    """The profile that was asked for, if any.

    Raises:
        InputError: if there is no such profile.
        ConfigurationError: if a constant is wrong.
    """
    return None if options.hardware is None else load_profile(options.hardware)


def read_report(path: Path, profile: HardwareProfile | None = None) -> Report:
    """The report of a converted network.

    Args:
        path: its folder, or its report.json.
        profile: hardware to give energies of; None: the report's own.

    Raises:
        InputError: if there is no such folder or file, or it holds parts of a network.
        ArtifactError: if the report is damaged.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if path.is_dir() and not file.exists() and is_hybrid(path):
        folders = ", ".join(f"{folder} ({name})" for name, folder in load_parts(path).folders.items())
        raise InputError(f"{path} holds parts of a network: give a part's folder ({folders})")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ArtifactError(f"{file} is no JSON: {first_line(error)}") from None
    if not isinstance(data, dict):
        raise ArtifactError(f"{file} is no report")
    try:
        report = Report.from_dict(data)
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error}") from None
    return report if profile is None else on_hardware(report, profile)
