import dataclasses
import shlex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnconvert.cli.arguments import build_parser, config_from
from snnconvert.config import ConversionConfig
from snnconvert.energy.profile import load_profile
from snnconvert.report.hardware import on_hardware
from snnconvert.report.view.reproduce import command_line

OVERRIDE = st.fixed_dictionaries(
    {},
    optional={
        "bits": st.integers(1, 2), "T": st.integers(1, 4), "weight_bits": st.integers(1, 8),
        "neuron": st.sampled_from(["if", "lif:leak=0.9,reset=hard"]), "analog": st.just(True),
    },
)  # fmt: skip
CONFIGS = st.fixed_dictionaries(
    {
        "bits": st.integers(1, 2),
        "T": st.integers(1, 4),
        "weight_bits": st.integers(1, 8),
        "threshold": st.sampled_from(["mse", "percentile"]),
        "percentile": st.floats(50, 100, exclude_min=True),
        "bias_correction": st.booleans(),
        "potential_correction": st.booleans(),
        "weight_rounding": st.sampled_from(["nearest", "gptq"]),
        "budget": st.none() | st.floats(4, 64),
        "seed": st.integers(0, 2**40),
        "overrides": st.dictionaries(st.sampled_from(["fc", "layer1\\.\\d+", "a b$'\""]), OVERRIDE, max_size=2),
    }
)


def parsed(command):
    program, *arguments = shlex.split(command)
    assert program == "snnconvert"
    return build_parser().parse_args(arguments)


@given(CONFIGS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_command_has_the_settings(small_report, values):
    config = ConversionConfig(**values)
    report = dataclasses.replace(small_report, config=config.to_dict())
    read = config_from(parsed(command_line(report)))
    told = {name: given for name, given in config.overrides.items() if given != type(given)()}
    assert dataclasses.replace(config, overrides=told) == read


def test_the_command_has_the_sources(small_report, labelled_report):
    options = parsed(command_line(small_report))
    assert (options.model, options.random_weights, options.calib_images) == ("small", True, 16)
    assert parsed(command_line(labelled_report)).data.name == "IMAGES"
    given = dataclasses.replace(small_report, weights="checkpoint /some where/a.pth", calibration_images=0)
    options = parsed(command_line(given))
    assert (str(options.checkpoint), options.calib, options.random_weights) == ("/some where/a.pth", "none", False)
    onnx = dataclasses.replace(small_report, model="a.onnx", weights="onnx nets/a.onnx")
    assert parsed(command_line(onnx)).model == "nets/a.onnx"
    assert parsed(command_line(on_hardware(small_report, load_profile("loihi")))).hardware == "loihi"


def test_allocated_widths_are_left_to_the_allocation(labelled_report):
    told = {"gate\\.0": {"bits": 1}, "mix\\.0": {"T": 4, "bits": 2, "weight_bits": 8}}
    found = {"mix.0": {"T": 4, "bits": 2, "weight_bits": 8}}
    report = dataclasses.replace(
        labelled_report,
        config=ConversionConfig(max_drop=1.0, overrides=told).to_dict(),
        allocation=dataclasses.replace(labelled_report.allocation, overrides=found),
    )
    assert "--max-drop 1 --override 'gate\\.0:bits=1' --" in command_line(report)
    assert "mix" not in command_line(report)
    assert "mix" in command_line(dataclasses.replace(report, allocation=None))


@pytest.mark.parametrize("change", [{"parts": ["a"]}, {"dynamic_sizes": True}, {"overrides": {"a": {"analog": False}}}])
def test_what_only_python_can_say_has_no_command(small_report, change):
    assert command_line(dataclasses.replace(small_report, config={**small_report.config, **change})) == ""
    assert command_line(dataclasses.replace(small_report, model="")) == ""
