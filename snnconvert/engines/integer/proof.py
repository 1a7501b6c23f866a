"""What makes a network exact in integer kernels: words for all spikes, and accumulators that never overflow."""

from __future__ import annotations

from torch import fx, nn

from snnconvert.engines.stepwise import neuron_layers
from snnconvert.errors import EngineError
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import Synapse, accumulator_bound
from snnconvert.neurons.word import WordCode

INT32_LARGEST = (1 << 31) - 1
LARGEST_BYTE = 255


def check_words(network: fx.GraphModule) -> None:
    """Refuses neurons whose closed form isn't what they fire.

    Raises:
        EngineError: naming the layer.
    """
    for layer, neuron in neuron_layers(network).values():
        if not isinstance(neuron.code, WordCode):
            raise EngineError(
                f"{layer}: integer engines run packed neurons, not {neuron.code.name}: run the network without an "
                "engine, or convert it with packed neurons"
            )


def check_accumulators(network: fx.GraphModule) -> None:
    """Proves max |Σ w·k + b| ≤ 2^31 − 1 for every layer of synapses and all bytes k in 0..255.

    Kernels may add up bytes with their zero point still in them, so that the bound is about bytes, not words.

    Raises:
        EngineError: naming the layer, if its weights allow a larger sum.
    """
    for node in network.graph.nodes:
        if node.op == "call_module":
            bound = _bound(network.get_submodule(str(node.target)))
            if bound > INT32_LARGEST:
                raise EngineError(
                    f"{node.meta.get('layer', node.target)}: its sums may reach {bound:.3g}, beyond 32-bit "
                    "accumulators: convert it with fewer weight bits, or run the network without an integer engine"
                )


def _bound(module: nn.Module) -> float:
    if isinstance(module, Synapse):
        return float(accumulator_bound(module.weight, module.bias, -LARGEST_BYTE, LARGEST_BYTE).max())
    if isinstance(module, Product):
        return float(LARGEST_BYTE * LARGEST_BYTE * module.most_terms)
    return 0.0
