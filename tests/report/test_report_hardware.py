import pytest

from snnconvert.energy.profile import load_profile, shipped_profiles
from snnconvert.report.hardware import on_hardware


def test_the_default_hardware_gives_the_report_itself(small_report, labelled_report):
    for report in (small_report, labelled_report):
        assert on_hardware(report, load_profile()).to_dict() == report.to_dict()


@pytest.mark.parametrize("name", shipped_profiles())
def test_other_hardware_changes_energies_alone(small_report, name):
    profile = load_profile(name)
    there = on_hardware(small_report, profile)
    assert there.energy.hardware == profile.name
    assert there.energy.constants == profile.tables()
    assert {**there.to_dict(), "energy": None} == {**small_report.to_dict(), "energy": None}
    effort = [next(item for item in report.energy.models if item.model == "s-ace") for report in (there, small_report)]
    assert effort[0].totals == effort[1].totals
