"""From a spiking network to the ONNX model of a dialect, with names that speak of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, fx

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.lowering import StoredWords, lower
from snnconvert.engines.integer.onnx_model import to_onnx
from snnconvert.engines.integer.proof import check_accumulators
from snnconvert.neurons.current import SumPool

_WEIGHT = ".weight"


@dataclass(frozen=True)
class IntegerModel:
    """An integer network for one runtime.

    Attributes:
        model: the ONNX model.
        words: layers of neurons whose bytes follow the outputs; empty unless observed.
    """

    model: onnx.ModelProto
    words: tuple[StoredWords, ...]


def integer_model(
    network: fx.GraphModule, signature: Signature, dialect: Dialect, *, batch: int | None = None, observed: bool = False
) -> IntegerModel:
    """Lowers and exports a packed spiking network.

    Args:
        network: the spiking graph, on the CPU.
        signature: how it is called.
        dialect: of the runtime that will execute it.
        batch: a fixed batch size; None: any.
        observed: whether to return every layer's bytes beside the outputs.

    Raises:
        EngineError: naming the layer, if neurons aren't packed, a sum might overflow 32 bits, or an analog operator
            has no ONNX form.
    """
    check_accumulators(network)
    lowered = lower(network, dialect, _pooled_channels(network, signature), observed=observed)
    names = output_names(network)
    model = to_onnx(lowered.graph, signature, [*names, *(f"words.{item.layer}" for item in lowered.words)], batch=batch)
    layers = {
        str(node.target): str(node.meta.get("layer", node.target))
        for node in network.graph.nodes
        if node.op == "call_module"
    }
    _name_synapses(model, layers)
    onnx.helper.set_model_props(model, {"source": "snnconvert", "dialect": dialect.name})
    return IntegerModel(model, lowered.words)


def output_names(network: fx.GraphModule) -> list[str]:
    """Names of a graph's output tensors."""
    results = next(node.args[0] for node in network.graph.nodes if node.op == "output")
    count = len(results) if isinstance(results, (tuple, list)) else 1
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _name_synapses(model: onnx.ModelProto, layers: Mapping[str, str]) -> None:
    """Gives the node of every synapse its layer's name, by the weights it reads."""
    weights = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        for source in node.input:
            target = weights.get(source, "").removesuffix(_WEIGHT)
            if target in layers:
                node.name = layers[target]


class _ChannelCounter(fx.Interpreter):
    """Runs a spiking graph and notes how many channels each window sum reads."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.channels: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> object:
        """Runs a node."""
        if n.op == "call_module" and isinstance(self.module.get_submodule(str(n.target)), SumPool):
            counts = self.env[n.all_input_nodes[0]]
            self.channels[n.name] = counts.shape[1]
        return super().run_node(n)


def _pooled_channels(network: fx.GraphModule, signature: Signature) -> dict[str, int]:
    if not any(isinstance(module, SumPool) and not module.geometry.dims for module in network.modules()):
        return {}
    counter = _ChannelCounter(network)
    leaves: Sequence[Tensor] = [spec.trial(1) for spec in signature.tensors]
    with torch.no_grad():
        counter.run(*leaves)
    return counter.channels
