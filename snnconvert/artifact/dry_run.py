"""Tries a loaded graph on tensors without memory: finds what can't run before anything is allocated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from snnconvert.convert.signature import Signature
from snnconvert.errors import ArtifactError, first_line
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse

_MOST_ELEMENTS = 1 << 31


class _Checked(fx.Interpreter):
    """Checks sizes, and that synapses and products read words within what their proofs of exact sums assume."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self._words: dict[fx.Node, tuple[int, int]] = {}
        called = [node for node in network.graph.nodes if node.op == "call_module"]
        self._modules = {node: network.get_submodule(str(node.target)) for node in called}
        self._assumed = {node: _assumed_words(module) for node, module in self._modules.items()}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.numel() > _MOST_ELEMENTS:
            raise ArtifactError(f"graph.json: node {n.name} asks for {value.numel()} elements")
        for source, assumed in zip(n.args, self._assumed.get(n, ()), strict=False):
            self._check_words(n, source, assumed)
        module = self._modules.get(n)
        if isinstance(module, Product):
            self._check_terms(n, module)
        if isinstance(module, SpikingNeuron):
            self._words[n] = module.code.extremes
        elif n.op == "call_function" and (ranges := [self._words[s] for s in n.all_input_nodes if s in self._words]):
            self._words[n] = min(low for low, _ in ranges), max(high for _, high in ranges)
        return value

    def _check_words(self, node: fx.Node, source: object, assumed: tuple[int, int]) -> None:
        if not isinstance(source, fx.Node) or source not in self._words:
            raise ArtifactError(f"graph.json: {node.name} reads something else than spikes")
        (low, high), (smallest, largest) = self._words[source], assumed
        if low < smallest or high > largest:
            raise ArtifactError(
                f"graph.json: {node.name} reads words {low}..{high}, its sums are proven for {smallest}..{largest}"
            )

    def _check_terms(self, node: fx.Node, product: Product) -> None:
        terms = product.terms(*self.fetch_args_kwargs_from_env(node)[0])
        if terms > product.most_terms:
            raise ArtifactError(
                f"graph.json: {node.name} adds up {terms} products, its sums are proven for {product.most_terms}"
            )


def _assumed_words(module: nn.Module) -> list[tuple[int, int]]:
    """What a module's proof assumes of the words of each of its inputs."""
    if isinstance(module, Synapse):
        return [module.word_range]
    if isinstance(module, Product):
        return [(-magnitude, magnitude) for magnitude in module.largest_words]
    return []


def check_runs(network: fx.GraphModule, signature: Signature) -> None:
    """Runs a graph once on fake tensors: the inputs of one sample in, as many tensors out as it returns.

    Raises:
        ArtifactError: if it has another signature, can't run, asks for absurd sizes, or adds up more, or larger,
            words than its proofs of exact sums assume.
    """
    kinds = [node.op for node in network.graph.nodes]
    inputs = len(signature.tensors)
    if kinds.count("placeholder") != inputs or kinds.count("output") != 1 or kinds[-1] != "output":
        raise ArtifactError(
            f"graph.json: the network has {inputs} input{'s' * (inputs > 1)} and, at its end, one output"
        )
    try:
        trial = _Checked(network)
        trial.extra_traceback = False
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            output = trial.run(*(spec.trial(1) for spec in signature.tensors))
    except ArtifactError:
        raise
    except Exception as error:  # whatever a malformed graph makes torch raise
        raise ArtifactError(f"graph.json can't run: {first_line(error)}") from None
    returned = output if isinstance(output, (tuple, list)) else (output,)
    if len(returned) != signature.result.tensors or not all(isinstance(item, Tensor) for item in returned):
        kinds = [type(item).__name__ for item in returned]
        raise ArtifactError(f"graph.json: the network returns {', '.join(kinds)}, not {signature.result}")
