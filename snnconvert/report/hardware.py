"""A report's energies on other hardware, from its layers alone."""

from __future__ import annotations

import dataclasses

from snnconvert.energy.comparison import compare_energy
from snnconvert.energy.profile import HardwareProfile
from snnconvert.report.report import Report


def on_hardware(report: Report, profile: HardwareProfile) -> Report:
    """The same report with the energies of another profile; all else stays."""
    return dataclasses.replace(report, energy=compare_energy(report.workload, profile))
