"""Variances of what each synapse reads, channel by channel, from one run of the ANN on a sample."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.ops import input_channel_axis


def input_variances(
    graph_module: fx.GraphModule, names: Collection[str], sample: Sequence[Tensor]
) -> dict[str, Tensor]:
    """σ² of each input channel of some synapses about its mean over samples and places, float64 [I], by node name.

    Args:
        graph_module: the canonical graph.
        names: the synapses' nodes.
        sample: the tensors of one call.
    """
    with torch.no_grad():
        run = _Variances(graph_module, names)
        run.run(*sample)
    return run.found


class _Variances(fx.Interpreter):
    def __init__(self, graph_module: fx.GraphModule, names: Collection[str]) -> None:
        super().__init__(graph_module)
        self._names = names
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self._names:
            source = n.args[0]
            assert isinstance(source, fx.Node)
            values = self.env[source]
            channels = values.movedim(input_channel_axis(n, values.dim()), 0).flatten(1)
            self.found[n.name] = channels.double().var(1, unbiased=False)
        return super().run_node(n)
