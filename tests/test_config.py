import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.config import ConversionConfig, LayerOverride, matches
from snnconvert.errors import ConfigurationError


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *[("bits", v) for v in (0, 9, -1, 2.0, "2", None, True)],
        *[("T", v) for v in (0, 9, 5, 4.0, "4", None, False)],
        *[("weight_bits", v) for v in (9, 0, -1, 4.0, "8", None, True)],
        *[("first_last_weight_bits", v) for v in (0, 9, 8.0, None)],
        *[("input_bits", v) for v in (0, 9, 8.0, None, True)],
        *[("threshold", v) for v in ("", "MSE", "kl", None, 3)],
        *[("weight_granularity", v) for v in ("tensor", "", None, 8)],
        *[("weight_group", v) for v in (0, -1, 2.0, "16", None, True, 2**20 + 1)],
        *[("channel_shift", v) for v in (0, "channel", None)],
        *[("percentile", v) for v in (50, 0, 100.1, -1, "99", None, float("nan"), float("inf"))],
        *[("seed", v) for v in (-1, 1.0, "0", None, True)],
    ],
)
def test_wrong_values_are_refused_by_name(field, wrong):
    with pytest.raises(ConfigurationError) as error:
        ConversionConfig(**{field: wrong})
    message = str(error.value)
    assert field in message
    assert "\n" not in message


@pytest.mark.parametrize("wrong", ["no", 1, None])
def test_bias_correction_must_be_a_boolean(wrong):
    with pytest.raises(ConfigurationError, match="bias_correction"):
        ConversionConfig(bias_correction=wrong)


@pytest.mark.parametrize(
    "settings_",
    [
        {"bits": 8, "T": 1},
        {"bits": 1, "T": 8},
        {"weight_bits": 1, "first_last_weight_bits": 1, "input_bits": 1},
        {"percentile": 100},
        {"percentile": 50.1, "threshold": "percentile"},
        {"threshold": "max", "seed": 10**9},
        {"weight_granularity": "group", "weight_group": 1},
        {"weight_granularity": "group", "weight_group": 2**20},
    ],
)
def test_values_at_the_edge_are_accepted(settings_):
    config = ConversionConfig(**settings_)
    assert all(getattr(config, name) == value for name, value in settings_.items())


def test_settings_can_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ConversionConfig().bits = 3
    given_overrides = {"a": {"bits": 1}}
    config = ConversionConfig(overrides=given_overrides)
    given_overrides["b"] = {"bits": 1}
    given_overrides["a"]["bits"] = 2
    assert config.overrides == {"a": LayerOverride(bits=1)}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"bits": 9}, "bits"),
        ({"bits": 4, "T": 4}, "4 x 4"),
        ({"T": 0}, "T"),
        ({"weight_bits": 0}, "weight_bits"),
        ({"weight_bits": 2.0}, "weight_bits"),
        ({"analog": "yes"}, "analog"),
        ({"analog": 1}, "analog"),
        ({"wbits": 4}, "weight_bits"),
        (3, "bits"),
        ([1, 2], "bits"),
    ],
)
def test_wrong_overrides_name_their_pattern(override, words):
    with pytest.raises(ConfigurationError) as error:
        ConversionConfig(overrides={"layer1.*": override})
    message = str(error.value)
    assert "layer1.*" in message
    assert words in message
    assert "\n" not in message


def test_a_pattern_must_compile():
    with pytest.raises(ConfigurationError, match="regular expression"):
        ConversionConfig(overrides={"layer(": {"bits": 1}})


@pytest.mark.parametrize("overrides", [["layer1"], None, {3: {"bits": 1}}])
def test_overrides_must_map_names(overrides):
    with pytest.raises(ConfigurationError):
        ConversionConfig(overrides=overrides)


def test_overrides_by_name_and_by_expression():
    config = ConversionConfig(
        overrides={
            r"layer\d\..*": {"bits": 1, "weight_bits": 4},
            "layer1.0.conv1": LayerOverride(T=8, bits=1),
            r"head|fc": {"analog": True},
        }
    )
    assert config.override_for("layer2.0.conv1") == LayerOverride(bits=1, weight_bits=4)
    assert config.override_for("layer1.0.conv1") == LayerOverride(bits=1, T=8, weight_bits=4)
    assert config.override_for("head") == config.override_for("fc") == LayerOverride(analog=True)
    assert config.override_for("conv1") == LayerOverride()
    assert config.override_for("xlayer1.0") == LayerOverride()  # the whole name must match


def test_later_patterns_win_field_by_field():
    overrides = {"a.*": {"bits": 1, "weight_bits": 3}, "ab": {"bits": 2, "T": 2}}
    assert ConversionConfig(overrides=overrides).override_for("ab") == LayerOverride(bits=2, T=2, weight_bits=3)
    swapped = dict(reversed(list(overrides.items())))
    assert ConversionConfig(overrides=swapped).override_for("ab") == LayerOverride(bits=1, T=2, weight_bits=3)


def test_a_name_with_special_characters_matches_itself():
    assert matches("layer1.0.conv1", "layer1.0.conv1")
    assert matches("head+", "head+")
    assert matches(r"layer1\.\d", "layer1.7")
    assert not matches("conv", "conv1")
    assert not matches("onv1", "conv1")


@st.composite
def overrides(draw):
    bits = draw(st.sampled_from([None, 1, 2]))
    T = draw(st.sampled_from([None, 1, 2, 4]))
    neuron = draw(st.sampled_from([None, "packed", "if:reset=hard", "lif:leak=0.5", "ternary"]))
    return LayerOverride(bits, T, neuron, draw(st.sampled_from([None, *range(2, 9)])), draw(st.booleans()))


@st.composite
def configs(draw):
    bits, T = draw(st.sampled_from([(1, 1), (1, 4), (2, 2), (2, 4)]))
    return ConversionConfig(
        bits=bits,
        T=T,
        weight_bits=draw(st.integers(1, 8)),
        first_last_weight_bits=draw(st.integers(1, 8)),
        input_bits=draw(st.integers(1, 8)),
        threshold_granularity="smoothed",
        channel_shift=draw(st.booleans()),
        weight_granularity=draw(st.sampled_from(["layer", "group", "channel"])),
        weight_group=draw(st.integers(1, 64)),
        threshold=draw(st.sampled_from(["mse", "max", "percentile"])),
        percentile=draw(st.floats(50.1, 100)),
        bias_correction=draw(st.booleans()),
        overrides=draw(st.dictionaries(st.sampled_from(["conv1", r"layer\d\..*", "fc", ".*"]), overrides())),
        seed=draw(st.integers(0, 2**40)),
    )


def test_shifts_need_thresholds_per_channel():
    with pytest.raises(ConfigurationError, match="set threshold_granularity to channel or smoothed"):
        ConversionConfig(channel_shift=True)
    assert ConversionConfig(channel_shift=True, threshold_granularity="smoothed").channel_shift


@given(configs())
@settings(max_examples=60, deadline=None)
def test_json_round_trip(config):
    read = ConversionConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read == config
    assert list(read.overrides) == list(config.overrides)  # their order decides
    for layer in ("conv1", "layer1.0", "fc"):
        assert read.override_for(layer) == config.override_for(layer)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_versions_are_refused(version):
    with pytest.raises(ConfigurationError, match="version"):
        ConversionConfig.from_dict({**ConversionConfig().to_dict(), "version": version})


def test_a_version_is_required():
    data = ConversionConfig().to_dict()
    del data["version"]
    with pytest.raises(ConfigurationError, match="version"):
        ConversionConfig.from_dict(data)


def test_unknown_settings_are_named():
    with pytest.raises(ConfigurationError, match="depth, height"):
        ConversionConfig.from_dict({**ConversionConfig().to_dict(), "height": 1, "depth": 2})
    data = ConversionConfig(overrides={"a": {"bits": 1}}).to_dict()
    data["overrides"]["a"]["colour"] = 1
    with pytest.raises(ConfigurationError, match="'a'"):
        ConversionConfig.from_dict(data)


def test_values_are_checked_when_read_back():
    with pytest.raises(ConfigurationError, match="weight_bits"):
        ConversionConfig.from_dict({**ConversionConfig().to_dict(), "weight_bits": 16})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 8, "max_drop": 1}, "budget and max_drop exclude"),
        ({"budget": 8.0, "target_energy": 1.0}, "exclude"),
        ({"budget": 0}, "budget must be positive"),
        ({"budget": True}, "budget must be positive"),
        ({"budget": float("nan")}, "budget must be positive"),
        ({"max_drop": -0.1}, "max_drop must not be negative"),
        ({"target_energy": "1"}, "target_energy must be positive"),
    ],
)
def test_objectives_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ConversionConfig(**settings)


def test_an_objective_is_read_back_and_old_settings_have_none():
    config = ConversionConfig(max_drop=0)
    assert config.objective == ("max_drop", 0)
    data = json.loads(json.dumps(config.to_dict()))
    assert ConversionConfig.from_dict(data) == config
    for name in ("budget", "max_drop", "target_energy"):
        del data[name]
    assert ConversionConfig.from_dict(data).objective is None
