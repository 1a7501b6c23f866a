"""What the comparison of accuracies with SpikingJelly does without it."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import peer_accuracy
from benchmarks.cifar_resnet import cifar_resnet
from benchmarks.spikingjelly_recipes import with_modules
from snnconvert.models.small.network import whole_window


def test_modules_in_place_of_functions_compute_the_same():
    torch.manual_seed(0)
    ann = cifar_resnet(20).eval()
    images = torch.randn(2, 3, 32, 32)
    rewritten = with_modules(ann)
    with torch.no_grad():
        assert torch.equal(rewritten(images), ann(images))
    assert sum(isinstance(module, nn.ReLU) for module in rewritten.modules()) == 19
    assert not any(node.target in (torch.relu, F.relu, F.pad, whole_window) for node in rewritten.graph.nodes)


def test_padding_of_borders_is_refused():
    class Padded(nn.Module):
        def forward(self, x):
            return F.pad(x, (1, 1))

    with pytest.raises(ValueError, match="channels"):
        with_modules(Padded())


def test_the_best_recipe_counts_at_each_step():
    peers = [
        {"accuracy": {"4": 0.1, "8": 0.5, "16": 0.8, "32": 0.85, "64": 0.9}},
        {"accuracy": {"4": 0.2, "8": 0.4, "16": 0.7, "32": 0.88, "64": 0.89}},
    ]
    best = peer_accuracy.best_of(peers)
    assert best == {4: 0.2, 8: 0.5, 16: 0.8, 32: 0.88, 64: 0.9}
    assert peer_accuracy.steps_to_reach(0.86, best) == 32
    assert peer_accuracy.steps_to_reach(0.5, best) == 8
    assert peer_accuracy.steps_to_reach(0.91, best) is None


def test_it_says_when_spikingjelly_isnt_there(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    peer_accuracy.main([])
    assert "pip install 'snnconvert[peers]'" in capsys.readouterr().out
