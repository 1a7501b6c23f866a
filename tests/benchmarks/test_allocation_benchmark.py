"""The allocation benchmark on a tiny network with data of its own."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import allocation
from benchmarks.trained.classification import classifier_task, split_batches
from benchmarks.trained.networks import NETWORKS, Network


class TinyTask:
    """Gives a small classifier whose labels are its own decisions, but for some; counts how often."""

    def __init__(self):
        self.given = []

    def __call__(self, images):
        self.given.append(images)
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        ann = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(32, 5),
        ).eval()  # fmt: skip
        calibration = torch.randn(96, 3, 8, 8, generator=generator)
        evaluated = torch.randn(120, 3, 8, 8, generator=generator)[:images]
        with torch.no_grad():
            labels = ann(evaluated).argmax(1)
        labels[::10] = 0
        batches = partial(split_batches, evaluated, labels, 50)
        return classifier_task("tiny network", ann, lambda: calibration, "noise", batches)


@pytest.fixture
def tiny(only_networks):
    task = TinyTask()
    only_networks(tiny=Network(task, "here"), absent=Network(task, "elsewhere"))
    return task


def run(capsys, *arguments):
    allocation.main(["--threads", "1", *(str(argument) for argument in arguments)])
    lines = capsys.readouterr().out.splitlines()
    return lines, json.loads(lines[-1])


def tau(first, second):
    """Kendall's tau-b by its definition."""
    signs = [
        ((a > b) - (a < b), (c > d) - (c < d))
        for (a, c), (b, d) in itertools.combinations(zip(first, second, strict=True), 2)
    ]
    norm = sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)
    return sum(x * y for x, y in signs) / norm**0.5


@pytest.mark.slow
def test_mixed_widths_are_compared_at_the_budgets_of_their_rivals_and_ten_are_ranked(tiny, capsys):
    lines, result = run(capsys)
    assert any(line.startswith("absent is left out") for line in lines)
    rows = {row["allocation"]: row for row in result["rows"]}
    assert tiny.given == [None]
    assert all(row["config"]["weight_rounding"] == "gptq" for row in rows.values())
    assert all(row["config"]["threshold_granularity"] == "smoothed" for row in rows.values())
    rivals = [rows[f"uniform {setting}"] for setting in ("4/1/4", "4/1/3", "4/1/2")]
    kept = [rows[f"mixed as {setting}, kept round"] for setting in ("4/1/4", "4/1/3", "4/1/2")]
    first = [rows[f"mixed as {setting}, first round"] for setting in ("4/1/4", "4/1/3", "4/1/2")]
    others = [rows[f"uniform {setting}"] for setting in ("3/1/3", "2/1/4", "5/1/3")]
    rich = rows["mixed as 2 times 4/1/4, first round"]
    assert len(rows) == len(result["rows"]) == 13
    for uniform, one, best in zip(rivals, first, kept, strict=True):
        assert max(one["bit_budget"], best["bit_budget"]) <= uniform["bit_budget"] * (1 + 1e-9)
        assert one["predicted"] <= uniform["predicted"]
        assert best["measured"] <= one["measured"]
        assert (best["round"] == 1) == (best["measured"] == one["measured"])
    assert rivals[0]["bit_budget"] < rich["bit_budget"] <= 2 * rivals[0]["bit_budget"] * (1 + 1e-9)
    (found,) = result["networks"]
    assert found["equal_budget"] == [
        {"uniform": uniform, "mixed": best} for uniform, best in zip(rivals, kept, strict=True)
    ]
    ranked = [*rivals, *others, *first, rich]
    predicted = [row["predicted"] for row in ranked]
    assert found["kendall_tau_error"] == pytest.approx(tau(predicted, [row["measured"] for row in ranked]))
    assert found["kendall_tau_metric"] == pytest.approx(tau(predicted, [-row["snn"] for row in ranked]))


@pytest.mark.slow
def test_what_is_in_the_file_isnt_measured_again(tiny, capsys, tmp_path):
    path = tmp_path / "rows.json"
    _, result = run(capsys, "--json", path, "--images", 60)
    assert tiny.given == [60]
    _, again = run(capsys, "--json", path, "--images", 60)
    assert tiny.given == [60]
    assert again == result
    content = json.loads(path.read_text())
    for index in (9, 6, 0):
        del content["rows"][index]
    path.write_text(json.dumps(content))
    lines, mended = run(capsys, "--json", path, "--images", 60)
    assert mended == result
    anew = ("uniform 4/1/4", "mixed as 4/1/4, kept round", "mixed as 4/1/4, first round")
    assert [line for line in lines if line.endswith(": done")] == [f"tiny, {allocation}: done" for allocation in anew]
    run(capsys, "--json", path, "--images", 60, "--set", "weight_rounding=nearest")
    assert tiny.given == [60, 60, 60]


def test_errors_are_of_samples_held_out_where_there_are_enough(monkeypatch, tiny, capsys):
    many = replace(tiny(20), calibrations=[lambda: torch.rand(300, 3, 8, 8)])
    monkeypatch.setitem(NETWORKS, "tiny", Network(lambda images: many, "here"))
    _, result = run(capsys)
    assert {row["measured_on"] for row in result["rows"]} == {"44 held out"}


def test_a_network_that_cant_be_converted_is_a_row_and_in_no_table(tiny, capsys):
    _, result = run(capsys, "--set", 'overrides={"elsewhere": {"bits": 1}}')
    (row,) = result["rows"]
    assert row["allocation"] == "uniform 4/1/4"
    assert "elsewhere" in row["error"]
    assert result["networks"] == []


def test_the_page_has_both_tables_and_their_command(tiny, capsys, tmp_path):
    page = tmp_path / "page.md"
    _, result = run(capsys, "--networks", "tiny", "--images", 40, "--markdown", page, "--block", "widths")
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "<!-- begin widths -->"
    assert lines[2].startswith("`python -m benchmarks.allocation --networks tiny --images 40`")
    pairs = [line.split(" | ") for line in lines if line.startswith("| tiny | accuracy |")]
    (found,) = result["networks"]
    assert [line[3] for line in pairs] == ["4/1/4", "4/1/3", "4/1/2"]
    assert [line[4] for line in pairs] == [f"{it['uniform']['bit_budget']:.2f}" for it in found["equal_budget"]]
    assert [line[10] for line in pairs] == [f"{100 * it['mixed']['snn']:.1f} |" for it in found["equal_budget"]]
    signs = [it["mixed"]["snn"] - it["uniform"]["snn"] for it in found["equal_budget"]]
    counts = [sum(sign > 0 for sign in signs), sum(sign == 0 for sign in signs), sum(sign < 0 for sign in signs)]
    (measured_on,) = {row["measured_on"] for row in result["rows"]}
    assert measured_on == "64 fitted"
    taus = [f"{found[name]:.2f}" for name in ("kendall_tau_error", "kendall_tau_metric")]
    assert f"| {' | '.join(['tiny', measured_on, *taus, *map(str, counts)])} |" in lines


def test_wrong_values_end_with_a_sentence(tiny, capsys):
    with pytest.raises(SystemExit):
        allocation.main(["--set", "weight_rounding=best"])
    assert "weight_rounding must be one of" in capsys.readouterr().err
    assert tiny.given == []


STRAY = """
import ctypes, runpy
from benchmarks import network_options
def emit_stray(names):
    ctypes.CDLL(None).puts(b"stray")
    return []
network_options.networks_with_data = emit_stray
runpy.run_module("benchmarks.allocation", run_name="__main__")
"""


@pytest.mark.slow
def test_what_libraries_print_in_c_stays_out_of_the_output():
    done = subprocess.run([sys.executable, "-c", STRAY], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == []
    assert "stray" in done.stderr
    assert "stray" not in done.stdout
