"""Hardware profiles: shipped ones hold what papers say, and a user's own is checked name by name."""

import importlib.resources

import pytest

from snnconvert.energy.profile import HardwareProfile, load_profile, shipped_profiles
from snnconvert.energy.twin import TwinConstants
from snnconvert.errors import ConfigurationError, InputError


def shipped_text(name="cmos45"):
    return (importlib.resources.files("snnconvert.energy") / "profiles" / f"{name}.toml").read_text(encoding="utf-8")


def test_the_four_profiles_are_there():
    assert shipped_profiles() == ("cmos45", "edge_cpu", "loihi", "neuromorphic22")
    names = [load_profile(name).name for name in shipped_profiles()]
    assert names == ["45 nm CMOS", "edge CPU", "Loihi-like", "22 nm neuromorphic"]
    assert all(load_profile(name).description.strip() for name in shipped_profiles())


def test_the_papers_constants_are_the_models_own():
    assert load_profile("neuromorphic22").twin == TwinConstants()
    default = HardwareProfile("default")
    assert (load_profile("cmos45").counting, load_profile("cmos45").hierarchy) == (default.counting, default.hierarchy)


def test_a_profile_of_one_s_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(shipped_text().replace("float32_mac_pj = 4.6", "float32_mac_pj = 3.7", 1), encoding="utf-8")
    assert load_profile(path).counting.float32_mac_pj == 3.7
    assert load_profile(path).hierarchy == load_profile("cmos45").hierarchy


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("float32_mac_pj = 4.6\nfloat32_add", "float32_add", ConfigurationError, "counting: float32_mac_pj is missing"),
        ("[counting]", "[counting]\nmagic_pj = 1.0", ConfigurationError, "counting: unknown constant 'magic_pj'"),
        ("reuse = 216.0", "reuse = -1", ConfigurationError, "hierarchy: reuse must be a number from 0 up"),
        ("reuse = 216.0", "reuse = nan", ConfigurationError, "hierarchy: reuse must be a number from 0 up"),
        ("reuse = 216.0", "reuse = true", ConfigurationError, "hierarchy: reuse must be a number from 0 up"),
        ('gating = "mac"', 'gating = "sometimes"', ConfigurationError, "twin: gating must be 'mac' or 'weights'"),
        ('gating = "mac"', "gating = 3", ConfigurationError, "twin: gating must be"),
        ("[counting]", "[colour]\na = 1\n[counting]", ConfigurationError, "unknown entry 'colour'"),
        ("hardware/1", "hardware/9", ConfigurationError, "schema 'snnconvert.hardware/9'"),
        ('name = "45 nm CMOS"', 'name = ""', ConfigurationError, "name must be some text"),
        ('name = "45 nm CMOS"', "", ConfigurationError, "name is missing"),
        ("[counting]", "[counting", InputError, "no valid TOML"),
    ],
)
def test_bad_profiles_are_refused_by_name(tmp_path, old, new, error, says):
    path = tmp_path / "mine.toml"
    assert old in shipped_text()
    path.write_text(shipped_text().replace(old, new, 1), encoding="utf-8")
    with pytest.raises(error, match=r"mine\.toml") as caught:
        load_profile(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reuse_of_nothing_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(shipped_text().replace("reuse = 216.0", "reuse = 0.0"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="reuse"):
        load_profile(path)


@pytest.mark.parametrize("name", ["cmos46", "missing.toml", ""])
def test_profiles_that_are_not_there(name):
    with pytest.raises(InputError, match=r"cmos45|missing\.toml"):
        load_profile(name)
