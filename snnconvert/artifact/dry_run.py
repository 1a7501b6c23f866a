"""Tries a loaded graph on tensors without memory: finds what can't run before anything is allocated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from snnconvert.convert.signature import Signature
from snnconvert.errors import ArtifactError, first_line

_MOST_ELEMENTS = 1 << 31


class _SizeChecked(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.numel() > _MOST_ELEMENTS:
            raise ArtifactError(f"graph.json: node {n.name} asks for {value.numel()} elements")
        return value


def check_runs(network: fx.GraphModule, signature: Signature) -> None:
    """Runs a graph once on fake tensors: the inputs of one sample in, as many tensors out as it returns.

    Raises:
        ArtifactError: if it has another signature, can't run, or asks for absurd sizes.
    """
    kinds = [node.op for node in network.graph.nodes]
    inputs = len(signature.tensors)
    if kinds.count("placeholder") != inputs or kinds.count("output") != 1 or kinds[-1] != "output":
        raise ArtifactError(
            f"graph.json: the network has {inputs} input{'s' * (inputs > 1)} and, at its end, one output"
        )
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            trial = _SizeChecked(network)
            trial.extra_traceback = False
            output = trial.run(*(spec.trial(1) for spec in signature.tensors))
    except ArtifactError:
        raise
    except Exception as error:  # whatever a malformed graph makes torch raise
        raise ArtifactError(f"graph.json can't run: {first_line(error)}") from None
    returned = output if isinstance(output, (tuple, list)) else (output,)
    if len(returned) != signature.result.tensors or not all(isinstance(item, Tensor) for item in returned):
        kinds = [type(item).__name__ for item in returned]
        raise ArtifactError(f"graph.json: the network returns {', '.join(kinds)}, not {signature.result}")
