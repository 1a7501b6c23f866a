"""What the tests of lowering passes share: a lowered graph must equal its model and describe itself truly."""

import torch
from torch import fx

from snnconvert.convert.graph_tools import tensor_at
from snnconvert.convert.names import assign_layer_names, layer_name


def check(graph, net, x, tolerance=1e-5):
    """Equal to the model at batch sizes 1, 3 and more, with true shapes, modules and layer names on every node."""
    more = torch.cat([x * 1.5, x.flip(0), x - 0.25])
    for batch in (x[:1], more[:3], more):
        with torch.no_grad():
            expected, actual = net(batch), graph(batch)
        assert actual.shape == expected.shape
        scale = float(expected.abs().max())
        assert scale > 0
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * scale)
        _ShapeCheck(graph, batch.shape[0]).run(batch)
    for node in (node for node in computing(graph) if node.users):
        assert "val" in node.meta, node
        assert "nn_module_stack" in node.meta, node
    names = [layer_name(node) for node in computing(assign_layer_names(graph))]
    assert len(set(names)) == len(names)


def computing(graph):
    return [node for node in graph.graph.nodes if node.op == "call_function"]


def targets(graph):
    """Names of the ATen operators of a graph, in order."""
    return [str(node.target).removeprefix("aten.").partition(".")[0] for node in computing(graph)]


def parameters_of_synapses(graph):
    nodes = [node for node in computing(graph) if "linear" in str(node.target) or "conv" in str(node.target)]
    return [str(node.args[1].meta.get("parameter", node.args[1].target)) for node in nodes]


class _ShapeCheck(fx.Interpreter):
    """Runs a graph and compares what every node gives with the value it was traced with."""

    def __init__(self, graph, batch):
        super().__init__(graph)
        self.batch = batch

    def run_node(self, n):
        result = super().run_node(n)
        traced = n.meta.get("val")
        if n.op == "get_attr":
            assert tuple(tensor_at(self.module, str(n.target)).shape) == tuple(traced.shape)
        elif isinstance(traced, torch.Tensor):
            assert tuple(map(self.number, traced.shape)) == tuple(result.shape), n
            assert traced.dtype == result.dtype, n
        elif isinstance(traced, (int, torch.SymInt)):
            assert self.number(traced) == result, n
        elif isinstance(traced, (tuple, list)):
            for item, value in zip(traced, result, strict=True):
                assert tuple(map(self.number, item.shape)) == tuple(value.shape), n
        return result

    def number(self, size):
        if isinstance(size, int):
            return size
        expression = size.node.expr
        return int(expression.subs(dict.fromkeys(expression.free_symbols, self.batch)))
