import pytest
import torch
from graph_helpers import Net, count
from pass_checks import check, computing, parameters_of_synapses, targets
from slow_cases import mostly_slow
from torch import nn

from snnconvert.convert.capture import capture
from snnconvert.convert.passes.fold_constants import fold_constants
from snnconvert.convert.passes.lower_constant_products import lower_constant_products
from snnconvert.convert.passes.lower_einsum import lower_einsum

PRODUCTS = ("aten.matmul", "aten.bmm", "aten.mm", "aten.mv", "aten.addmm", "aten.baddbmm", "bilinear")


def tensor(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


X = tensor(2, 3, 4, 5)


class Holder(nn.Module):
    """A layer that holds one parameter, so that synapses have an owner to be named after."""

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(tensor(*shape))


def lowered(function, *shape, x=X, linear=0, conv=0, left=0, prepare=lambda graph: graph):
    net = Net(function, layer=Holder(*shape))
    graph = prepare(capture(net, x))
    graph = lower_constant_products(graph)
    assert targets(graph).count("linear") == linear
    assert targets(graph).count("conv1d") == conv
    assert count(graph, *PRODUCTS) == left
    check(graph, net, x)
    assert set(parameters_of_synapses(graph)) <= {"layer.weight"}
    return graph


class TestMatrices:
    def test_in_front(self):
        lowered(lambda n, x: n.layer.weight @ x, 6, 4, linear=1)
        lowered(lambda n, x: n.layer.weight @ x[:, 0], 6, 4, linear=1)

    def test_behind(self):
        lowered(lambda n, x: x @ n.layer.weight, 5, 6, linear=1)
        lowered(lambda n, x: torch.mm(x.flatten(1), n.layer.weight), 60, 6, linear=1)

    def test_with_dimensions_of_one(self):
        lowered(lambda n, x: x @ n.layer.weight, 1, 1, 5, 6, linear=1)
        lowered(lambda n, x: n.layer.weight @ x, 1, 6, 4, linear=1)

    def test_vectors(self):
        lowered(lambda n, x: x @ n.layer.weight, 5, linear=1)
        lowered(lambda n, x: n.layer.weight @ x, 4, linear=1)
        lowered(lambda n, x: torch.mv(x.flatten(1), n.layer.weight), 60, linear=1)

    def test_expanded_over_the_batch(self):
        lowered(lambda n, x: torch.bmm(n.layer.weight.expand(x.shape[0], -1, -1), x[:, 0]), 6, 4, linear=1)
        lowered(lambda n, x: torch.bmm(x[:, 0], n.layer.weight.expand(x.shape[0], 5, 6)), 1, 5, 6, linear=1)

    def test_computed(self):
        lowered(lambda n, x: n.layer.weight.softmax(-1).t() @ x, 4, 6, linear=1, prepare=fold_constants)

    def test_of_activations_stay(self):
        lowered(lambda n, x: x @ x.mT, 1, left=1)
        lowered(lambda n, x: x @ (x.mT * n.layer.weight), 1, left=1)


class TestHeads:
    def test_behind(self):
        graph = lowered(lambda n, x: x @ n.layer.weight, 3, 5, 6, conv=1)
        (convolution,) = [node for node in computing(graph) if "conv1d" in str(node.target)]
        assert convolution.args[-1] == 3

    def test_in_front(self):
        graph = lowered(lambda n, x: n.layer.weight @ x, 3, 6, 4, conv=1)
        assert count(graph, "transpose", "permute") == 0

    def test_of_two_dimensions(self):
        x = X.unflatten(2, (2, 2))
        lowered(lambda n, x: x @ n.layer.weight, 3, 2, 5, 6, x=x, conv=1)
        lowered(lambda n, x: x @ n.layer.weight, 3, 1, 5, 6, x=x, conv=1)
        lowered(lambda n, x: n.layer.weight @ x, 2, 6, 2, x=x, conv=1)

    def test_in_front_of_samples(self):
        lowered(lambda n, x: torch.bmm(x[:, :, 0].transpose(0, 1), n.layer.weight).transpose(0, 1), 3, 5, 6, conv=1)
        lowered(lambda n, x: torch.bmm(n.layer.weight, x[:, :, 0].permute(1, 2, 0)).permute(2, 0, 1), 3, 6, 5, conv=1)

    def test_that_read_the_same(self):
        lowered(lambda n, x: x[:, :1] @ n.layer.weight, 3, 5, 6, linear=1)
        lowered(lambda n, x: n.layer.weight @ x[:, :1], 3, 6, 4, linear=1)
        lowered(lambda n, x: x[:, :1, None] @ n.layer.weight, 2, 3, 5, 6, linear=1)

    def test_more_than_the_input_has_stay(self):
        lowered(lambda n, x: (x[:, 0] @ n.layer.weight).transpose(0, 1), 7, 1, 5, 6, left=1)

    @pytest.mark.slow
    def test_of_an_einsum(self):
        def prepare(graph):
            return fold_constants(lower_einsum(graph))

        lowered(lambda n, x: torch.einsum("bhlk,hkn->bhln", x, n.layer.weight), 3, 5, 6, conv=1, prepare=prepare)
        lowered(lambda n, x: torch.einsum("hnk,bhlk->blhn", n.layer.weight, x), 3, 6, 5, conv=1, prepare=prepare)
        lowered(lambda n, x: torch.einsum("bhlk,kn->bnhl", x, n.layer.weight), 5, 6, linear=1, prepare=prepare)
        lowered(lambda n, x: torch.einsum("bhlk,hnk->bln", x, n.layer.weight), 3, 6, 5, linear=1, prepare=prepare)


class TestAdditions:
    @pytest.mark.parametrize(
        "scales",
        mostly_slow(
            [{}, {"beta": 0.5}, {"alpha": 2}, {"alpha": 3.0, "beta": 2.0}, {"beta": 0}],
            keep=[{}, {"alpha": 3.0, "beta": 2.0}],
        ),
    )
    def test_of_activations(self, scales):
        lowered(lambda n, x: torch.addmm(x[:, 0, 0, :1], x.flatten(1), n.layer.weight, **scales), 60, 6, linear=1)
        lowered(lambda n, x: torch.baddbmm(x[:, 1], n.layer.weight.expand(x.shape[0], 4, 4), x[:, 0], **scales), 4, 4, linear=1)  # fmt: skip  # noqa: E501

    def test_of_a_bias(self):
        bias = tensor(6)
        graph = lowered(lambda n, x: torch.addmm(bias, x.flatten(1), n.layer.weight), 60, 6, linear=1)
        assert targets(graph).count("add") == 0
        graph = lowered(
            lambda n, x: torch.addmm(bias[:1], x.flatten(1), n.layer.weight), 60, 6, linear=1, prepare=fold_constants
        )
        assert targets(graph).count("add") == 1

    def test_between_activations_stay(self):
        lowered(lambda n, x: torch.baddbmm(n.layer.weight, x[:, 0], x[:, 1].mT), 1, left=1)


class TestBilinear:
    @pytest.mark.parametrize("bias", [True, False])
    def test_of_two_activations(self, bias):
        net = Net(lambda n, x: n.layer(x, x[..., :3]), layer=nn.Bilinear(5, 3, 6, bias=bias))
        graph = lower_constant_products(capture(net, X))
        assert targets(graph).count("linear") == targets(graph).count("matmul") == 1
        assert parameters_of_synapses(graph) == ["layer.weight"]
        check(graph, net, X)


class TestWeightedSums:
    @pytest.mark.parametrize(
        ("shape", "dims"),
        mostly_slow([
            ((5,), -1), ((4, 1), 2), ((4, 5), (2, 3)), ((1, 3, 1, 1), 1), ((1, 3, 1, 5), (1, 3)), ((5,), (2, 3)),
            ((3, 4, 5), (1, 2, 3)),
        ], keep=3),
    )  # fmt: skip
    @pytest.mark.parametrize("keep", mostly_slow([True, False], keep=[True]))
    def test_over_what_varies(self, shape, dims, keep):
        lowered(lambda n, x: (x * n.layer.weight).sum(dims, keepdim=keep), *shape, linear=1)
        lowered(lambda n, x: (n.layer.weight * x).sum(dims, keepdim=keep), *shape, linear=1)

    def test_with_outputs_of_its_own(self):
        lowered(lambda n, x: (x[:, :, :, None] * n.layer.weight).sum(-1), 6, 5, linear=1)
        lowered(lambda n, x: (x[:, None] * n.layer.weight).sum(2), 6, 3, 1, 1, linear=1)
        lowered(lambda n, x: (x[:, None, :, None] * n.layer.weight).sum((2, 5), keepdim=True), 6, 3, 2, 1, 5, linear=1)

    @pytest.mark.parametrize(("shape", "dims"), [((3, 1, 1), (2, 3)), ((1,), 1), ((4, 5), 3), ((3, 4, 5), 1)])
    def test_others_stay(self, shape, dims):
        graph = lowered(lambda n, x: (x * n.layer.weight).sum(dims), *shape)
        assert targets(graph).count("mul") == 1

    def test_products_that_others_read_stay(self):
        graph = lowered(lambda n, x: (y := x * n.layer.weight).sum(-1, keepdim=True) + y, 5)
        assert targets(graph).count("mul") == 1

    def test_products_of_activations_stay(self):
        lowered(lambda n, x: (x * x.relu()).sum(-1), 5)
