"""What the accuracy benchmark makes of its options, targets and kept rows; no network is converted."""

import argparse
import json
from types import SimpleNamespace

import pytest

from benchmarks import accuracy, network_options
from benchmarks.accuracy_targets import target_of
from benchmarks.config_options import field_arguments, parse_field
from benchmarks.setting import Setting
from benchmarks.trained.networks import Network
from benchmarks.trained.result import Result
from snnconvert.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weight_rounding=gptq", ("weight_rounding", "gptq")),
        ("bias_correction=false", ("bias_correction", False)),
        ("percentile=99.5", ("percentile", 99.5)),
        ("neuron=lif:leak=0.9", ("neuron", "lif:leak=0.9")),
        ('overrides={"fc": {"bits": 2}}', ("overrides", {"fc": {"bits": 2}})),
    ],
)
def test_any_field_can_be_set(text, expected):
    assert parse_field(text) == expected
    flag, again = field_arguments([expected])
    assert (flag, parse_field(again)) == ("--set", expected)


@pytest.mark.parametrize("text", ["weight_roundin=gptq", "weight_rounding", "bits=2", "T=4", "weight_bits=8"])
def test_unknown_fields_and_those_of_the_setting_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_field(text)


def test_settings_are_read_and_make_configurations():
    setting = Setting.parse("4/2/3")
    assert (setting.bit_budget, str(setting)) == (24, "4/2/3")
    config = setting.config({"weight_rounding": "gptq"})
    assert (config.weight_bits, config.bits, config.T, config.weight_rounding) == (4, 2, 3, "gptq")
    for text in ("4/2", "4/2/x", "4/2/3/1"):
        with pytest.raises(argparse.ArgumentTypeError):
            Setting.parse(text)


@pytest.mark.parametrize(
    ("network", "bit_budget", "relative", "ann", "snn", "met"),
    [
        ("gpt", 64, False, 0.9, 0.895, True),
        ("gpt", 64, False, 0.9, 0.894, False),
        ("gpt", 32, False, 0.9, 0.89, True),
        ("gpt", 16, False, 0.9, 0.879, False),
        ("resnet44", 32, False, 0.9, 0.892, True),
        ("resnet20", 32, False, 0.9, 0.897, True),
        ("resnet20", 32, False, 0.9, 0.896, False),
        ("resnet20", 12, False, 0.9, 0.879, False),
        ("resnet20", 8, False, 0.9, 0.84, True),
        ("camvid", 64, True, 0.5, 0.495, True),
        ("camvid", 64, True, 0.5, 0.494, False),
        ("camvid", 64, True, 0.5, 0.6, True),
    ],
)
def test_targets(network, bit_budget, relative, ann, snn, met):
    assert target_of(network, bit_budget, relative=relative).is_met(ann, snn) is met


@pytest.mark.parametrize(("network", "bit_budget", "relative"), [("gpt", 8, False), ("camvid", 32, True)])
def test_some_budgets_have_no_target(network, bit_budget, relative):
    assert target_of(network, bit_budget, relative=relative) is None


class Measured:
    """A network that is measured without being there, and fails at the configurations it is told to."""

    def __init__(self):
        self.configs = []
        self.failing = ()

    def __call__(self, images, config):
        self.configs.append(config)
        if config.bits in self.failing:
            raise InputError("no such thing")
        report = SimpleNamespace(totals=SimpleNamespace(bit_budget=17.5), notes=("a note",))
        details = {"images": images}
        return Result(
            "a network", "accuracy", 0.9, 0.885, 10, "others", report, details,
            difference_ci95=(-0.03, 0.0), relative_ci95=(-0.05, 0.01), conversion_seconds=1.5,
        )  # fmt: skip


class Unconverted(Network):
    """A network whose task is a measurement that needs no conversion."""

    def measure(self, images=None, config=None):
        return self.task(images, config)


@pytest.fixture
def measured(only_networks):
    measure = Measured()
    only_networks(
        net=Unconverted(measure, "here"),
        dense=Unconverted(measure, "here", dense=True),
        absent=Unconverted(measure, "elsewhere"),
    )
    return measure


def run(capsys, *arguments):
    accuracy.main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def test_rows_hold_what_was_measured_in_the_unit_of_their_target(measured, capsys):
    lines = run(capsys, "--settings", "8/2/4", "4/1/4", "--set", "weight_rounding=gptq", "--images", 7)
    rows = json.loads(lines[-1])["rows"]
    assert [(row["network"], row["setting"]) for row in rows] == [
        ("net", "8/2/4"), ("net", "4/1/4"), ("dense", "8/2/4"), ("dense", "4/1/4"),
    ]  # fmt: skip
    assert [row["target_met"] for row in rows] == [False, True, False, None]
    assert rows[0]["difference"] == pytest.approx(-1.5)
    assert rows[0]["ci95"] == pytest.approx([-3, 0])
    assert rows[2]["difference"] == pytest.approx(-100 * 0.015 / 0.9)
    assert rows[2]["ci95"] == pytest.approx([-5, 1])
    assert rows[0]["bit_budget"] == 17.5
    assert rows[0]["config"]["weight_rounding"] == "gptq"
    assert rows[0]["details"] == {"images": 7}
    assert any(line.startswith("absent is left out") for line in lines)


def test_only_what_isnt_in_the_file_is_measured(measured, capsys, tmp_path):
    path = tmp_path / "rows.json"
    first = run(capsys, "--networks", "net", "--settings", "8/2/4", "--json", path)
    again = run(capsys, "--networks", "net", "--settings", "8/2/4", "8/1/4", "--json", path)
    assert [config.bits for config in measured.configs] == [2, 1]
    assert json.loads(again[-1])["rows"][0] == json.loads(first[-1])["rows"][0]
    run(capsys, "--networks", "net", "--settings", "8/2/4", "--json", path, "--set", "weight_rounding=gptq")
    run(capsys, "--networks", "net", "--settings", "8/2/4", "--json", path, "--images", 3)
    assert len(measured.configs) == 4
    assert len(json.loads(path.read_text())["rows"]) == 4


def test_rows_of_several_states_of_the_sources_are_pointed_out(measured, capsys, tmp_path, monkeypatch):
    arguments = ("--networks", "net", "--settings", "8/2/4", "--json", tmp_path / "rows.json")
    page = tmp_path / "page.md"
    run(capsys, *arguments)
    assert network_options.MIXED not in run(capsys, *arguments)
    monkeypatch.setattr(network_options, "package_hash", lambda: "another")
    assert network_options.MIXED in run(capsys, *arguments, "--settings", "8/2/4", "8/1/4", "--markdown", page)[-2]
    assert network_options.MIXED in page.read_text()


def test_a_conversion_that_fails_is_a_row_and_is_tried_again(measured, capsys, tmp_path):
    path = tmp_path / "rows.json"
    measured.failing = (1,)
    arguments = ("--networks", "net", "--settings", "8/1/4", "8/2/4", "--json", path)
    rows = json.loads(run(capsys, *arguments)[-1])["rows"]
    assert [row.get("error") for row in rows] == ["no such thing", None]
    measured.failing = ()
    rows = json.loads(run(capsys, *arguments)[-1])["rows"]
    assert [config.bits for config in measured.configs] == [1, 2, 1]
    assert rows[0]["snn"] == 0.885
    assert len(json.loads(path.read_text())["rows"]) == 2


def test_targets_of_another_budget_also_hold_for_kept_rows(measured, capsys, tmp_path):
    arguments = ("--networks", "net", "--settings", "8/2/4", "--json", tmp_path / "rows.json")
    verdicts = [json.loads(run(capsys, *arguments, *more)[-1])["rows"] for more in ((), ("--target-bb", 16))]
    assert [rows[0]["target"] for rows in verdicts] == ["within 0.5 points", "within 2 points"]
    assert len(measured.configs) == 1


def test_the_page_names_its_command(measured, capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n<!-- begin gptq -->\n<!-- end gptq -->\n", encoding="utf-8")
    run(
        capsys, "--networks", "net", "--settings", "4/1/4", "--set", "weight_rounding=gptq",
        "--markdown", page, "--block", "gptq",
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    command = "python -m benchmarks.accuracy --networks net --settings 4/1/4 --set weight_rounding=gptq"
    assert text.startswith(f"Text.\n\n<!-- begin gptq -->\n\n`{command}`")
    row = "| net | accuracy | 4/1/4 | 17.5 | 90.0 | 88.5 | -1.50 points | -3.00 .. +0.00 | 2 | within 2 points: met |"
    assert row in text.splitlines()


def test_wrong_values_end_with_a_sentence(measured, capsys):
    with pytest.raises(SystemExit):
        accuracy.main(["--networks", "net", "--set", "weight_rounding=best"])
    assert "weight_rounding must be one of" in capsys.readouterr().err
    assert measured.configs == []
