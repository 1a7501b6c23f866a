"""From a spiking network to the ONNX model of a dialect, with names that speak of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from torch import fx

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.dialect import Dialect
from snnconvert.engines.integer.early_firing import early_firings
from snnconvert.engines.integer.fired_apart import fired_apart
from snnconvert.engines.integer.graph_facts import layer_of
from snnconvert.engines.integer.joined_words import NOTHING_JOINED, joined_words, plainly_joined_words
from snnconvert.engines.integer.lowering import StoredWords, lower
from snnconvert.engines.integer.neuron_lowering import BELOW
from snnconvert.engines.integer.onnx_model import to_onnx
from snnconvert.engines.integer.pixel_blocks import pixel_blocks
from snnconvert.engines.integer.proof import check_accumulators, check_words
from snnconvert.engines.integer.traces import traced
from snnconvert.neurons.current import SumPool


@dataclass(frozen=True)
class IntegerModel:
    """An integer network for one runtime.

    Attributes:
        model: the ONNX model.
        words: layers of neurons whose words follow the outputs; empty unless observed.
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
        EngineError: naming the layer, if neurons aren't packed, a sum might overflow 32 bits, logarithmic words are too
            large, or an analog operator has no ONNX form.
    """
    check_words(network)
    check_accumulators(network)
    if dialect.fires_apart:
        network = fired_apart(network, signature)
    early = early_firings(network, signature, dialect)
    joined = plainly_joined_words(network, signature) if dialect.joins_all_bytes else NOTHING_JOINED
    if dialect.joins_bytes:
        joined = joined_words(network, signature, {neuron for firing in early.values() for neuron in firing.neurons})
        early = {node: each for node, each in early.items() if joined.signed.keys().isdisjoint(each.neurons)}
    blocks = pixel_blocks(network, signature) if dialect.blocks_pixels else {}
    lowered = lower(network, dialect, _pooled_shapes(network, signature), early, blocks, joined, observed=observed)
    names = output_names(network)
    model = to_onnx(lowered.graph, signature, [*names, *(f"words.{item.layer}" for item in lowered.words)], batch=batch)
    layers = {str(node.target): layer_of(node) for node in network.graph.nodes if node.op == "call_module"}
    _name_synapses(model, {**layers, **{f"{name}{BELOW}": f"{layer}.below" for name, layer in layers.items()}})
    onnx.helper.set_model_props(model, {"source": "snnconvert", "dialect": dialect.name})
    return IntegerModel(model, lowered.words)


def output_names(network: fx.GraphModule) -> list[str]:
    """Names of a graph's output tensors."""
    results = next(node.args[0] for node in network.graph.nodes if node.op == "output")
    count = len(results) if isinstance(results, (tuple, list)) else 1
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _name_synapses(model: onnx.ModelProto, layers: Mapping[str, str]) -> None:
    """Gives the node of every synapse its layer's name, by the scale of the weights it reads, which is its own."""
    weights, numbers = {}, {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            weights[node.output[0]] = node.input[1].rpartition(".")[0]
        elif node.op_type == "Cast":
            numbers[node.output[0]] = node.input[0]
        elif node.op_type == "Mul" and node.input[0] in numbers:
            weights[node.output[0]] = numbers[node.input[0]].rpartition(".")[0]
    for node in model.graph.node:
        for source in node.input:
            target = weights.get(source, "")
            if target in layers:
                node.name = layers[target]


def _pooled_shapes(network: fx.GraphModule, signature: Signature) -> dict[str, tuple[int | None, ...]]:
    """The shapes that each window sum reads, by node: [1, C, ...], None for sizes that may be others."""
    pools = [
        node
        for node in network.graph.nodes
        if node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), SumPool)
    ]
    if not pools:
        return {}
    traces = traced(network, signature)
    shapes: dict[str, tuple[int | None, ...]] = {node.name: traces[node.all_input_nodes[0]].shape for node in pools}
    if signature.has_fixed_sizes:
        return shapes
    return {name: (*shape[:2], *(None for _ in shape[2:])) for name, shape in shapes.items()}
