"""Constants of one element become numbers, and functions made of comparisons become one function of a value."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical
from pass_checks import check, targets
from slow_cases import mostly_slow
from torch import nn

from snnconvert.convert.ops import OpKind, kind_of

X = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(3))

PIECEWISE = {
    "where number": lambda x: torch.where(x > 0, x, 0),
    "where zeros": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where tensor": lambda x: torch.where(x >= torch.tensor(0.1), x, torch.tensor(0.2)),
    "leaky": lambda x: torch.where(x > 0, x, 0.1 * x),
    "mask": lambda x: x * (x > 0),
    "float mask": lambda x: x * (x > 0).float(),
    "mask of its type": lambda x: x * (x >= 0).type_as(x),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
    "band": lambda x: x * ((x > -1) & (x < 1)),
    "maximum": lambda x: torch.maximum(x, 0.1 * x),
    "minimum": lambda x: torch.minimum(torch.relu(x), torch.tensor(1.5)),
    "maximum of a number": lambda x: torch.max(torch.tensor(-0.5), x),
    "clamp": lambda x: torch.clamp(x, torch.tensor(-0.5), torch.tensor(0.5)),
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "step": lambda x: (x > 0.1).float(),
    "lerp": lambda x: torch.lerp(x, F.relu(x), 0.7),
    "addcmul": lambda x: torch.addcmul(x, x, torch.sigmoid(x), value=0.5),
    "erfc": lambda x: x * (1 - 0.5 * torch.erfc(x / 2**0.5)),
    "ndtr": lambda x: x * torch.special.ndtr(x),
    "expit": lambda x: x * torch.special.expit(x),
    "scaled": lambda x: x * torch.sigmoid(torch.tensor(1.7) * x),
    "from a number": lambda x: torch.tensor(1.0) - torch.exp(-x.abs()),
}


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        PIECEWISE,
        keep=[
            "where number",
            "leaky",
            "float mask",
            "masked_fill",
            "band",
            "maximum",
            "clamp",
            "hardshrink",
            "step",
            "addcmul",
        ],
    ),
)
def test_functions_of_one_value_become_one_node(name):
    net = Net(lambda n, x: n.b(PIECEWISE[name](n.a(x))), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 3, 1))
    graph = canonical(net, X)
    check(graph, net, X)
    kinds = [kind_of(node) for node in graph.graph.nodes if node.op == "call_function"]
    function = [kind for kind in kinds if kind not in (OpKind.SYNAPSE, OpKind.SHAPE)]
    assert function in ([OpKind.FUNCTION], [OpKind.RECTIFIER])


def test_a_comparison_of_two_values_is_no_function_of_one():
    net = Net(lambda n, x: torch.where(n.a(x) > n.b(x), n.a(x), n.b(x)), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1))
    graph = canonical(net, X)
    check(graph, net, X)
    assert "where" in targets(graph)


def test_constants_that_widen_the_result_stay_tensors():
    net = Net(lambda n, x: (n.a(x) + torch.ones(1, 1, 1, 1, 1)).flatten(0, 1), a=nn.Conv2d(4, 4, 1))
    graph = canonical(net, X)
    with torch.no_grad():
        assert graph(X).shape == net(X).shape == (6, 4, 5, 5)


def test_numbers_read_from_weights_are_numbers():
    net = Net(lambda n, x: n.a(x) * n.a.weight.norm().item(), a=nn.Conv2d(4, 4, 1))
    graph = canonical(net, X)
    check(graph, net, X)
    assert targets(graph) == ["conv2d"]
