"""Distillation of blocks: what the network fires at the end of each block against what the ANN has there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.calibration.reconstruction.blocks import source_of
from snnconvert.convert.ops import OpKind, kind_of
from snnconvert.errors import ConfigurationError
from snnconvert.preparation import prepare
from snnconvert.spiking_model import SpikingModel
from snnconvert.trainable.network import TrainableNetwork
from snnconvert.trainable.neuron import TrainableNeuron

_TINY = 1e-12


class BlockTeacher(nn.Module):
    """The ANN's canonical graph; it gives what the ANN gives and keeps the values of some nodes on the way.

    Attributes:
        values: of the last call, by node name.
    """

    def __init__(self, graph: fx.GraphModule, wanted: Collection[str]) -> None:
        super().__init__()
        self.graph = graph
        self._wanted = frozenset(wanted)
        self.values: dict[str, Tensor] = {}

    def forward(self, inputs: Tensor) -> Any:
        """What the ANN gives."""
        run = _KeepingRun(self.graph, self._wanted)
        output = run.run(inputs)
        self.values = run.values
        return output


class _KeepingRun(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, wanted: frozenset[str]) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self._wanted = wanted
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._wanted:
            self.values[n.name] = value
        return value


class BlockDistillation:
    """Σ_blocks ‖Δ·z − min(a, θ)‖²/var(a) / blocks, of neurons that fire on sums and what the ANN has there.

    Attributes:
        teacher: to be called before the network, on the same inputs.
    """

    def __init__(self, network: TrainableNetwork, snn: SpikingModel, ann: nn.Module, example: Tensor) -> None:
        """Finds the ends of blocks in both networks.

        Args:
            network: the differentiable form.
            snn: the network it belongs to.
            ann: the ANN it was converted from.
            example: two samples.

        Raises:
            ConfigurationError: if the network has no sums that rectifying neurons fire on, or the ANN is another one.
        """
        found = _ends(network)
        graph = prepare(ann, example, snn.config).graph
        names = {node.name for node in graph.graph.nodes}
        if not found:
            raise ConfigurationError("block_distillation needs sums that neurons fire on: this network has none, set 0")
        if missing := sorted(set(found) - names):
            raise ConfigurationError(
                f"the ANN has no {missing[0]}: block_distillation needs the ANN the network was converted from"
            )
        self.teacher = BlockTeacher(graph, found)
        self._neurons = found
        self._words: dict[str, Tensor] = {}
        for name, neuron in found.items():
            neuron.watchers.append(_Watcher(self._words, name))

    def loss(self) -> Tensor:
        """Of the batch that both have seen last."""
        terms: list[Tensor] = []
        for name, neuron in self._neurons.items():
            step = neuron.base_step * neuron.factor() if neuron.stretches else neuron.base_step
            value = self._words.pop(name) * step
            expected = torch.minimum(self.teacher.values[name], (step * neuron.neuron.ceiling).detach())
            terms.append((value - expected).square().mean() / expected.var().clamp(min=_TINY))
        return torch.stack(terms).mean()


class _Watcher:
    def __init__(self, words: dict[str, Tensor], name: str) -> None:
        self._words, self._name = words, name

    def __call__(self, words: Tensor) -> None:
        self._words[self._name] = words


def _ends(network: TrainableNetwork) -> dict[str, TrainableNeuron]:
    """Rectifying neurons that fire on sums, by the node of the ANN's graph whose value they encode."""
    found: dict[str, TrainableNeuron] = {}
    for node in network.graph.graph.nodes:
        module = network.graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, TrainableNeuron) and _fires_on_sum(node) and module.neuron.code.minimum == 0:
            found.setdefault(source_of(node), module)
    return found


def _fires_on_sum(node: fx.Node) -> bool:
    sources: Sequence[fx.Node] = node.all_input_nodes
    return sources[0].op == "call_function" and kind_of(sources[0]) is OpKind.ADD
