"""Multiply-accumulates of plans against torch's own counter, on one small network of each of ten families."""

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import snnconvert
from snnconvert.report import account

FAMILIES = {
    "resnet18": 96,
    "mobilenetv2_050": 96,
    "efficientnet_b0": 96,
    "vit_tiny_patch16_224": 224,
    "convnext_atto": 96,
    "regnetx_002": 96,
    "densenet121": 96,
    "mixer_s32_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "poolformer_s12": 96,
    "levit_128s": 224,
}


def counted(network, images):
    """Multiply-accumulates per image: half the floating-point operations torch counts."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() / 2 / len(images)


def gates(plan):
    """Elementwise products of two activations, one multiply-accumulate each, which torch doesn't count."""
    return sum(item.macs for item in plan.synapses if item.held is not None and item.op.startswith("mul"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_plan_counts_what_torch_counts(name):
    network = timm.create_model(name, pretrained=False).eval()
    images = torch.randn(2, 3, FAMILIES[name], FAMILIES[name])
    plan = snnconvert.plan(network, images)
    expected = counted(network, images)
    assert plan.total_macs - gates(plan) == expected
    assert gates(plan) < 0.01 * expected
    assert account(network, images).totals.macs == expected
