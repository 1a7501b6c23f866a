"""SpikingJelly's conversion recipes on a network with functional ReLUs; needs ``pip install 'snnconvert[peers]'``."""

from __future__ import annotations

import contextlib
import copy
import io
import operator
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.models.small.network import whole_window

_HALF = {"channel_wise": True, "half_threshold": True}
RECIPES: dict[str, Mapping[str, Any]] = {
    "max": {"mode": "Max"},
    "99.9 %": {"mode": "99.9%"},
    "half the max": {"mode": 0.5},
    "per channel, max, v0 = θ/2": {"mode": "Max", **_HALF},
    "per channel, 99.9 %, v0 = θ/2": {"mode": "99.9%", **_HALF},
    "per channel, 99 %, v0 = θ/2": {"mode": "99%", **_HALF},
    "per channel, 98 %, v0 = θ/2": {"mode": "98%", **_HALF},
    "local threshold balancing": {},
}
"""The options of its rate-coding recipe by name; local threshold balancing is a recipe of its own."""
_BALANCING_BATCH, _BALANCING_PASSES = 16, 10
_ZERO_PADDING = {"mode": "constant", "value": None}


def convert_with(recipe: str, ann: nn.Module, calibration: Tensor) -> nn.Module:
    """SpikingJelly's spiking network, which takes [T, N, ...] and gives [T, N, classes].

    All images calibrate as one batch, since several would be mixed by a moving average; the thresholds that local
    balancing learns creep up batch by batch and get ten passes of small ones.

    Args:
        recipe: one of ``RECIPES``.
        ann: the network.
        calibration: images [N, ...].

    Raises:
        ImportError: if SpikingJelly isn't installed.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        from spikingjelly.activation_based import ann2snn, functional

        chosen: Any
        if RECIPES[recipe]:
            chosen = ann2snn.RateCodingRecipe(dataloader=[calibration], **RECIPES[recipe])
        else:
            batches = list(torch.split(calibration, _BALANCING_BATCH)) * _BALANCING_PASSES
            chosen = ann2snn.LocalThresholdBalancingRecipe(dataloader=batches)
        snn: nn.Module = ann2snn.Converter(recipe=chosen, device="cpu").convert(with_modules(ann)).eval()
        functional.set_step_mode(snn, "m")
    return snn


def means_of_steps(snn: nn.Module, images: Tensor, steps: Sequence[int]) -> list[Tensor]:
    """The mean output of the first T steps of constant images, for each T; [N, classes].

    One run of the most steps gives them all: what a network does in its first steps doesn't depend on later ones.

    Args:
        snn: what :func:`convert_with` gave.
        images: [N, ...].
        steps: every T.
    """
    from spikingjelly.activation_based import functional

    with torch.inference_mode():
        functional.reset_net(snn)
        outputs: Tensor = snn(images.unsqueeze(0).expand(max(steps), *images.shape))
        return [outputs[:count].mean(0) for count in steps]


def with_modules(ann: nn.Module) -> fx.GraphModule:
    """The same function of images with its ReLUs as modules and its padding of channels as a concatenation.

    SpikingJelly's converter knows no other form of them. It gives networks their steps itself: what looks for a
    dimension of time in the input is left out.
    """
    traced = fx.symbolic_trace(copy.deepcopy(ann).eval())
    for node in list(traced.graph.nodes):
        if node.target in (torch.relu, F.relu):
            name = f"{node.name}_module"
            traced.add_submodule(name, nn.ReLU())
            with traced.graph.inserting_before(node):
                new = traced.graph.call_module(name, node.args[:1])
        elif node.target is F.pad:
            new = _concatenated(traced.graph, node)
        elif node.target is whole_window:
            new = node.args[0]
        else:
            continue
        node.replace_all_uses_with(new)
        traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _concatenated(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Zeros of a zero padding of channels as slices of the input, times 0, before and behind it."""
    x, padding = node.args
    *others, before, after = cast("tuple[int, ...]", padding)
    if {**_ZERO_PADDING, **node.kwargs} != _ZERO_PADDING or any(others) or len(others) != 4:
        raise ValueError(f"only zero padding of channels has another form, not {node.format_node()}")
    with graph.inserting_before(node):
        parts: list[Any] = [x]
        for place, count in ((0, before), (2, after)):
            taken = graph.call_function(operator.getitem, (x, (slice(None), slice(0, count))))
            parts.insert(place, graph.call_function(operator.mul, (taken, 0.0)))
        return graph.call_function(torch.cat, (parts, 1))
