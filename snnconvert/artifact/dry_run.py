"""Tries a loaded graph on tensors without memory: finds what can't run before anything is allocated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from snnconvert.errors import ArtifactError, first_line

_MOST_ELEMENTS = 1 << 31


class _SizeChecked(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.numel() > _MOST_ELEMENTS:
            raise ArtifactError(f"graph.json: node {n.name} asks for {value.numel()} elements")
        return value


def check_runs(network: fx.GraphModule, input_shape: tuple[int, ...]) -> None:
    """Runs a graph once on fake tensors: one input of one sample in, one tensor out.

    Raises:
        ArtifactError: if it has another signature, can't run, or asks for absurd sizes.
    """
    kinds = [node.op for node in network.graph.nodes]
    if kinds.count("placeholder") != 1 or kinds.count("output") != 1 or kinds[-1] != "output":
        raise ArtifactError("graph.json: a network has one input and, at its end, one output")
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            trial = _SizeChecked(network)
            trial.extra_traceback = False
            output = trial.run(torch.empty(1, *input_shape))
    except ArtifactError:
        raise
    except Exception as error:  # whatever a malformed graph makes torch raise
        raise ArtifactError(f"graph.json can't run: {first_line(error)}") from None
    if not isinstance(output, Tensor):
        raise ArtifactError(f"graph.json: the network returns {type(output).__name__}, not a tensor")
