"""Efforts: sets of settings a conversion takes by name."""

import pytest

from snnconvert import EFFORTS, ConversionConfig
from snnconvert.cli.arguments import build_parser, config_from


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_is_settings(effort):
    config = ConversionConfig(**EFFORTS[effort], bits=1, T=3)
    assert config_from(build_parser().parse_args(["digits", "--effort", effort, "--bits", "1", "--T", "3"])) == config
    assert config.weight_rounding == "gptq"


def test_more_effort_trains_longer():
    steps = [ConversionConfig(**EFFORTS[effort]).reconstruction_steps for effort in ("fast", "balanced", "best")]
    assert steps[0] == 0
    assert steps == sorted(set(steps))


def test_single_options_go_before_the_effort():
    options = ["digits", "--effort", "best", "--weight-rounding", "nearest", "--reconstruction-steps", "7"]
    config = config_from(build_parser().parse_args(options))
    assert (config.weight_rounding, config.reconstruction_steps) == ("nearest", 7)
    whole = config_from(build_parser().parse_args(["digits", "--effort", "fast", "--threshold-granularity", "tensor"]))
    assert (whole.threshold_granularity, whole.channel_shift, whole.weight_rounding) == ("tensor", False, "gptq")
    centred = config_from(build_parser().parse_args(["digits", "--effort", "fast", "--no-channel-shift"]))
    assert (centred.threshold_granularity, centred.channel_shift) == ("smoothed", False)
    plain = config_from(build_parser().parse_args(["digits"]))
    assert plain == ConversionConfig()
