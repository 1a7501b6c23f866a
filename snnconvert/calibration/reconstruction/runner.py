"""Runs one block of the spiking graph: as it is, or in its differentiable form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.reconstruction.blocks import Block
from snnconvert.calibration.reconstruction.soft import SoftNeuron, SoftSynapse, soft_fire, soft_transfer
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.transfer import TableTransfer

Values = dict[fx.Node, Any]
SoftModule = SoftSynapse | SoftNeuron


class BlockRunner(fx.Interpreter):
    """Runs blocks of one network on values of their inputs."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network, garbage_collect_values=False)
        self.extra_traceback = False
        self._soft: Mapping[str, SoftModule] | None = None
        self._random: torch.Generator | None = None
        self._kept = 0.0
        self._seen: dict[str, Tensor] | None = None

    def run_block(
        self,
        block: Block,
        inputs: Mapping[fx.Node, Any],
        soft: Mapping[str, SoftModule] | None = None,
        random: torch.Generator | None = None,
        kept: float = 0.0,
    ) -> Values:
        """Values of the block's results.

        Args:
            block: the block.
            inputs: values of its inputs.
            soft: runs it in its differentiable form, with these in place of its synapses and some of its
                neurons, by module name.
            random: what drops roundings.
            kept: the share of neurons that fire without rounding.
        """
        self._soft, self._random, self._kept = soft, random, kept
        self.env = dict(inputs)
        for node in block.nodes:
            for constant in node.all_input_nodes:
                if constant.op == "get_attr" and constant not in self.env:
                    self.env[constant] = super().run_node(constant)
            self.env[node] = self.run_node(node)
        results = {node: self.env[node] for node in block.results}
        self.env = {}
        return results

    def spreads(self, block: Block, inputs: Mapping[fx.Node, Any]) -> dict[str, Tensor]:
        """Standard deviation of each synapse's current, before its multiplier, in each channel; at least one count."""
        self._seen = {}
        with torch.no_grad():
            self.run_block(block, inputs)
        seen, self._seen = self._seen, None
        return seen

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a module as it is, or its differentiable form while a block is trained."""
        name, module = str(target), self.fetch_attr(str(target))
        if self._soft is None:
            current = super().call_module(target, args, kwargs)
            if self._seen is not None and isinstance(module, Synapse):
                self._seen[name] = _spread(module, current)
            return current
        soft = self._soft.get(name)
        if isinstance(soft, SoftNeuron):
            return soft(args[0], self._drawn(args[0]))
        if soft is not None:
            return soft(args[0])
        if isinstance(module, SpikingNeuron):
            return soft_fire(module, args[0], self._drawn(args[0]))
        if isinstance(module, TableTransfer):
            return soft_transfer(module, args[0])
        return super().call_module(target, args, kwargs)

    def _drawn(self, like: Tensor) -> Tensor | None:
        if self._random is None or self._kept == 0:
            return None
        return torch.empty_like(like, dtype=torch.float32).bernoulli_(1 - self._kept, generator=self._random)


def _spread(synapse: Synapse, current: Tensor) -> Tensor:
    axis = synapse.channel_axis(current.dim()) % current.dim()
    channels = current.movedim(axis, 0).flatten(1).float()
    return (channels.std(1, unbiased=False) / synapse.multiplier).clamp(min=1.0)
