"""Figures the papers print, from the plan of the network they print them for."""

import pytest
import timm
import torch

import snnconvert


def test_effort_of_resnet34_at_a_bit_budget_of_64():
    """S-ACE 234 G: 3.66 GMAC at 8/2/4, 224 pixels (Shen et al., CVPR 2024)."""
    network = timm.create_model("resnet34", pretrained=False).eval()
    plan = snnconvert.plan(network, torch.randn(2, 3, 224, 224))
    assert plan.coverage == 1
    assert plan.bit_budget == 64
    assert sum(item.macs * item.bit_budget for item in plan.synapses) == pytest.approx(234e9, rel=5e-3)
