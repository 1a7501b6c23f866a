"""Words are added up as bytes, in whatever order they come and whatever their multipliers are."""

import pytest
import torch
from integer_networks import RUNTIMES
from torch import fx

from snnconvert.convert.signature import Signature
from snnconvert.engines.integer.compiled import compile_network
from snnconvert.engines.integer.plain_sums import plain_sums
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.neurons.current import IntegerScale, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.packed import PackedCode


def words_in_a_sum(multipliers):
    """Two layers' words in a sum that a third reads; words without a multiplier enter it as they are."""
    top = max(multiplier or 1 for multiplier in multipliers)
    graph, modules, terms = fx.Graph(), {"real": ToReal(torch.ones(()))}, []
    x = graph.placeholder("x")
    for name, gain, multiplier in zip("ab", (1.0, 0.75), multipliers, strict=True):
        modules[name] = SpikingNeuron(PackedCode(4, 1), torch.tensor(gain), torch.ones(()))
        terms.append(graph.call_module(name, (x,)))
        if multiplier is not None:
            modules[f"scale_{name}"] = IntegerScale(torch.tensor(multiplier))
            terms[-1] = graph.call_module(f"scale_{name}", (terms[-1],))
    total = graph.call_function(torch.ops.aten.add.Tensor, tuple(terms))
    modules["read"] = SpikingNeuron(PackedCode(8, 1), torch.tensor(4 / top), torch.ones(()))
    graph.output(graph.call_module("real", (graph.call_module("read", (total,)),)))
    return fx.GraphModule(modules, graph)


@pytest.mark.parametrize("multipliers", [(None, 4), (4, None), (None, None), (None, 5), (2, 16), (16, 7), (3, 64)])
@pytest.mark.parametrize("engine", RUNTIMES)
def test_words_with_and_without_multipliers(engine, multipliers):
    pytest.importorskip(engine)
    network, images = (
        words_in_a_sum(multipliers),
        12 * torch.rand(3, 8, 6, 6, generator=torch.Generator().manual_seed(0)),
    )
    signature = Signature.of_one_tensor(images.shape[1:])
    compiled = compile_network(network, signature, lambda output: output, engine, RuntimeOptions(), cache=False)
    assert [layer for layer in compiled.agreement(images) if layer.mismatches] == []
    assert torch.equal(compiled(images), network(images))


@pytest.mark.parametrize(("multipliers", "unit"), [((None, 4), 1), ((5, None), 1), ((2, 16), 16), ((16, 7), 16)])
def test_words_as_they_are_are_the_unit(multipliers, unit):
    network = words_in_a_sum(multipliers)
    modules = {node: network.get_submodule(node.target) for node in network.graph.nodes if node.op == "call_module"}
    assert list(plain_sums(network.graph, modules).values()) == [unit]
