import operator

import pytest
import torch
from graph_helpers import Net
from pass_checks import check, computing, targets
from torch import fx, nn

from snnconvert.convert.capture import capture
from snnconvert.convert.graph_builder import Builder
from snnconvert.convert.graph_tools import tidy

aten = torch.ops.aten
X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


def captured(function=lambda net, x: net.a(x).relu(), **modules):
    net = Net(function, a=nn.Linear(6, 8), **modules)
    graph = capture(net, X)
    return net, graph, next(node for node in computing(graph) if node.target is aten.relu.default)


def test_calls_carry_symbolic_values_and_modules():
    net, graph, relu = captured()
    builder = Builder(graph, relu)
    zero = builder.constant("zero", torch.zeros(1, 8))
    new = builder.call(aten.maximum.default, relu.args[0], zero)
    assert isinstance(builder.shape(new)[0], torch.SymInt)
    assert builder.shape(new)[1:] == (4, 8)
    assert new.meta["nn_module_stack"] is relu.meta["nn_module_stack"]
    builder.replace(new)
    check(tidy(graph), net, X)


def test_constants_keep_the_name_of_their_parameter():
    _, graph, relu = captured()
    builder = Builder(graph, relu)
    weight = relu.args[0].args[1]
    once = builder.constant("a", torch.ones(2), weight)
    assert builder.constant("b", torch.ones(2), once).meta["parameter"] == "a.weight"
    assert "parameter" not in builder.constant("c", torch.ones(2)).meta
    assert torch.equal(builder.constant_of(once), torch.ones(2))
    assert builder.constant_of(3.0) is None


def test_sizes_are_numbers_or_nodes_computed_once():
    net, graph, relu = captured()
    builder = Builder(graph, relu)
    batch, *rest = builder.sizes(relu.args[0])
    assert isinstance(batch, fx.Node)
    assert rest == [4, 8]
    assert builder.size(relu.args[0], -3) is batch
    assert builder.product([2, 4]) == 8
    assert builder.product([batch]) is batch
    flat = builder.reshape(relu.args[0], [builder.product([batch, 4]), 8])
    back = builder.reshape(builder.call(aten.relu.default, flat), [batch, 4, 8])
    builder.replace(back)
    graph = tidy(graph)
    check(graph, net, X)
    assert targets(graph).count("sym_size") == 1


def test_sizes_the_graph_knows_are_read_again():
    net, graph, relu = captured(lambda net, x: net.a(x.reshape(x.shape[0] * 4, 6)).relu().reshape(-1, 32))
    before = len(computing(graph))
    flat = Builder(graph, relu).size(relu.args[0], 0)
    assert flat.target is operator.mul
    assert len(computing(graph)) == before
    check(tidy(graph), net, X)


def test_what_changes_nothing_inserts_nothing():
    _, graph, relu = captured()
    builder = Builder(graph, relu)
    source = relu.args[0]
    assert builder.reshape(source, builder.sizes(source)) is source
    assert builder.permute(source, [0, 1, 2]) is source
    assert builder.permute(source, [0, 2, 1]) is not source


def test_a_size_equal_to_the_traced_batch_stays_apart_from_it():
    """The graph is traced at two samples; two heads must not turn the batch into the number two."""
    _, graph, relu = captured()
    builder = Builder(graph, relu)
    builder.call(aten.add.Tensor, relu.args[0], builder.constant("pair", torch.ones(2, 1, 1)))
    assert str(builder.call(aten.neg.default, relu.args[0]).meta["val"].shape[0]).startswith("s")


def test_graphs_without_traced_values_are_refused():
    graph = fx.symbolic_trace(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="capture"):
        Builder(graph, next(iter(graph.graph.nodes)))
