"""What the benchmark of scenes makes of its options and scores; the networks are stand-ins."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks import scenes
from benchmarks.scene_networks import SCENE_NETWORKS, SceneNetwork, mean_bit_budget
from snnconvert.training.config import FinetuneConfig


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)))


@pytest.mark.parametrize(
    ("ann", "snn", "percent", "met"), [(0.8, 0.792, 1.0 + 1e-6, True), (0.8, 0.79, 1.0, False), (0.5, 0.6, 1.0, True)]
)
def test_targets_are_relative(ann, snn, percent, met):
    row = scenes.judged({"ann": ann, "snn": snn}, percent)
    assert row["target_met"] is met
    assert row["change_percent"] == pytest.approx(100 * (snn - ann) / ann)


def test_settings_have_targets_and_budgets():
    assert set(scenes.SETTINGS) == set(scenes.LOSSES)
    config = scenes.SETTINGS["4/1/4 fast"]
    assert (config.weight_bits * config.bits * config.T, config.weight_rounding) == (16, "gptq")
    assert scenes.SETTINGS["budget 16 fast"].budget == 16


def test_bit_budget_is_weighted_over_parts(monkeypatch):
    monkeypatch.setattr("benchmarks.scene_networks.HybridModel", SimpleNamespace)
    totals = [
        SimpleNamespace(macs=10, analog_macs=2, s_ace=8 * 64),
        SimpleNamespace(macs=2, analog_macs=0, s_ace=2 * 16),
    ]
    parts = {str(index): SimpleNamespace(totals=total) for index, total in enumerate(totals)}
    assert mean_bit_budget(SimpleNamespace(report=parts)) == pytest.approx((8 * 64 + 2 * 16) / 10)


def test_table_page_and_json(tmp_path, monkeypatch, capsys):
    def scores(network, some):
        with torch.no_grad():
            return {"miou": float(network(torch.stack([scene.image for scene in some])).softmax(1)[:, 0].mean())}

    for name in list(SCENE_NETWORKS):
        monkeypatch.delitem(SCENE_NETWORKS, name)
    stand_in = SceneNetwork("stand-in", lambda: Net().eval(), lambda ann: ann, lambda snn: snn, scores)
    monkeypatch.setitem(SCENE_NETWORKS, "segmenter", stand_in)
    page = tmp_path / "page.md"
    monkeypatch.setattr("benchmarks.scene_networks.TRAINING", FinetuneConfig(epochs=1, batch_size=4))
    chosen = ["--networks", "segmenter", "--settings", "8/2/4", "4/1/4 fast", "budget 16 tuned"]
    counts = ["--scenes", "2", "--calibration-scenes", "4", "--training-scenes", "8"]
    scenes.main([*chosen, *counts, "--markdown", str(page), "--threads", "1"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["setting"] for row in rows] == ["8/2/4", "4/1/4 fast", "budget 16 tuned"]
    assert [(row["scenes"], row["calibration_scenes"]) for row in rows] == [(2, 4)] * 3
    assert rows[0]["bit_budget"] == pytest.approx(64)
    assert 0 < abs(rows[0]["change_percent"]) < 1
    text = page.read_text(encoding="utf-8")
    assert (
        "--settings 8/2/4 '4/1/4 fast' 'budget 16 tuned' --scenes 2 --calibration-scenes 4 --training-scenes 8" in text
    )
    assert text.count("| segmenter | ") == 3
