"""Which of the shipped profiles an account of energies was made with."""

from __future__ import annotations

from snnconvert.energy.comparison import EnergyAccount
from snnconvert.energy.profile import HardwareProfile, load_profile, shipped_profiles


def shipped_profile(account: EnergyAccount) -> tuple[str, HardwareProfile] | None:
    """The name to give to ``--hardware``, and the profile; None of the user's own."""
    for name in shipped_profiles():
        profile = load_profile(name)
        if profile.name == account.hardware and profile.tables() == account.constants:
            return name, profile
    return None
