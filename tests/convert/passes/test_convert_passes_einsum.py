import pytest
import timm
import torch
from graph_helpers import Net, count
from pass_checks import check, computing, targets
from slow_cases import mostly_slow
from timm.layers.attention2d import MultiQueryAttentionV2
from torch import nn

from snnconvert.convert.capture import capture
from snnconvert.convert.passes.fold_constants import fold_constants
from snnconvert.convert.passes.lower_einsum import lower_einsum

SIZES = {"b": None, "c": 3, "d": 4, "e": 5, "f": 6, "h": 2}
X = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def lowered(function, x=X, *, einsums=1, tolerance=1e-5, fold=False, **modules):
    net = Net(function, **modules)
    graph = capture(net, x)
    assert count(graph, "einsum") == einsums
    graph = lower_einsum(fold_constants(graph) if fold else graph)
    assert count(graph, "einsum") == 0
    check(graph, net, x, tolerance)
    return graph


def operand(x, term):
    """An activation of the wanted indices, made from x [b, 3, 4, 5] by repeats; a constant without b among them."""
    letters = term.replace("b", "")
    value = x.flatten(1)[:, 0] if "b" in term else torch.tensor(0.3)
    for letter in letters:
        value = value.unsqueeze(-1) * torch.linspace(-1, 1.3, SIZES[letter])
        value = torch.cos(5 * value + 1)
    return value.movedim(0, term.index("b")) if "b" in term else value


def equation_net(equation):
    terms = equation.split("->")[0].split(",")
    return lambda net, x: torch.einsum(equation, *[operand(x, term) + i for i, term in enumerate(terms)])


@pytest.mark.parametrize(
    "equation",
    mostly_slow([
        "bcd,bde->bce", "bcd,bed->bce", "bdc,bde->bce", "bcd,bde->bec", "bcd,bde->b", "bcd,bcd->b", "bc,bc->b",
        "bcde,bdf->bcef", "bcde,bcdf->bcfe", "bhcd,bhed->bhce", "bcde,bfde->bcf", "bcde,de->bc", "bc,dc->bd",
        "cb,cd->bd", "cd,bc->bd", "bcd,ef->bcd", "bcd,de->bce", "bcdef,bedh->bhcf",
    ], keep=("bcd,bde->bce", "bc,bc->b", "cd,bc->bd", "bhcd,bhed->bhce")),
)  # fmt: skip
def test_contractions_are_one_product(equation):
    graph = lowered(equation_net(equation))
    assert count(graph, "aten.matmul") == (equation != "bcd,ef->bcd")


@pytest.mark.parametrize(
    "equation",
    mostly_slow(
        ["bcd,bcd->bcd", "bcd,bc->bcd", "bc,bd->bcd", "bcd,dc->bcd", "bc,de->bdce", "b,cd->bdc", "bd,bc->bcd"],
        keep=("bcd,bc->bcd", "bcd,dc->bcd", "b,cd->bdc"),
    ),
)
def test_without_contraction_it_is_one_multiplication(equation):
    graph = lowered(equation_net(equation))
    assert count(graph, "aten.matmul") == 0


@pytest.mark.parametrize(
    "equation",
    mostly_slow(
        ["bcd->bdc", "bcd->b", "bcd->bd", "bcc->bc", "bcc->b", "bccc->bc", "bcd->bcd", "bcdc->bdc"],
        keep=("bcd->bdc", "bcd->bd", "bcc->bc"),
    ),
)
def test_one_operand(equation):
    graph = lowered(equation_net(equation))
    assert count(graph, "aten.matmul") == 0


def test_diagonals_of_two_operands():
    lowered(equation_net("bcdc,bdde->bce"))


@pytest.mark.parametrize(
    "equation",
    mostly_slow(
        ["bcd,bde,bef->bcf", "bc,bd,be->bcde", "bcd,bde,be->bc", "bc,cd,de->be", "bcd,bc,bd->b"],
        keep=["bc,bd,be->bcde", "bc,cd,de->be"],
    ),
)
def test_more_operands_meet_from_left_to_right(equation):
    lowered(equation_net(equation))


class TestEllipsis:
    @pytest.mark.parametrize(
        ("equation", "left", "right"),
        mostly_slow([
            ("...d,de->...e", "bcd", "de"), ("b...d,b...d->b...", "bced", "bced"),
            ("...cd,...de->...ce", "bhcd", "bhde"),
            ("b...,b...->b...", "bcd", "bcd"), ("...c,...d->...cd", "bc", "bd"), ("bc...,cd->b...d", "bcef", "cd"),
            ("b...d,de->be", "bd", "de"), ("...d,...d->...", "bcd", "cd"), ("... d, d e -> ... e", "bcd", "de"),
        ], keep=2),
    )  # fmt: skip
    def test_two_operands(self, equation, left, right):
        lowered(lambda net, x: torch.einsum(equation, operand(x, left), operand(x, right) + 1))

    def test_implied_result(self):
        lowered(lambda net, x: torch.einsum("...cd,de", operand(x, "bcd"), operand(x, "de")))
        lowered(lambda net, x: torch.einsum("...ba", x))

    def test_sizes_of_one_meet_any(self):
        lowered(lambda net, x: torch.einsum("b...c,b...c->b...", x, x[:, :1]))
        lowered(lambda net, x: torch.einsum("bcde,bcde->bcd", x, x[:, :, :1] + 1))
        lowered(lambda net, x: torch.einsum("bcde,bcde->bc", x[:, :, :, :1], x))
        lowered(lambda net, x: torch.einsum("bcde,fbce->bfd", x[:, :, :1], x[None, :, :, 0]))


class TestConstants:
    def test_a_matrix_becomes_the_right_factor(self):
        weight = nn.Parameter(torch.randn(6, 5))
        for equation in ("fe,bcde->bfcd", "bcde,fe->bcdf"):
            operands = [equation.split("->")[0].split(",").index(term) for term in ("bcde", "fe")]
            graph = lowered(
                lambda net, x, e=equation, o=operands: torch.einsum(e, *[[x, net.w][i] for i in o]),
                w=weight,
                fold=False,
            )
            (product,) = [node for node in computing(graph) if "matmul" in str(node.target)]
            assert len(product.args[1].meta["val"].shape) == 2

    def test_matrices_for_each_head_leave_samples_in_front(self):
        weight = nn.Parameter(torch.randn(3, 5, 6))
        graph = lowered(lambda net, x: torch.einsum("bhde,hef->bdhf", x, net.w), w=weight)
        (product,) = [node for node in computing(graph) if "matmul" in str(node.target)]
        assert product.args[1].op == "get_attr"
        assert tuple(product.args[0].meta["val"].shape)[1:] == (3, 4, 5)
        graph = lowered(lambda net, x: torch.einsum("hfe,bhe->bhf", net.w.mT, x[:, :, 0]), w=weight, fold=True)
        assert count(graph, "aten.matmul") == 1

    def test_a_scale(self):
        graph = lowered(lambda net, x: torch.einsum("bcde,c->bcde", x, net.w), w=nn.Parameter(torch.randn(3)))
        assert targets(graph).count("mul") == 1


@pytest.mark.slow
def test_multi_query_attention():
    torch.manual_seed(1)
    x = torch.randn(2, 12, 4, 4)
    graph = lowered(
        lambda net, x: net.a(x), x, einsums=6, a=MultiQueryAttentionV2(12, 12, num_heads=2, key_dim=4, value_dim=4)
    )
    assert count(graph, "aten.matmul") == 6


@pytest.mark.slow
def test_mvitv2():
    torch.manual_seed(2)
    net = timm.create_model("mvitv2_tiny", img_size=64, num_classes=5).eval()
    x = torch.randn(2, 3, 64, 64)
    captured = capture(net, x)
    einsums = count(captured, "einsum")
    assert einsums == 20
    graph = lower_einsum(fold_constants(captured))
    assert count(graph, "einsum") == 0
    check(graph, net, x, tolerance=1e-4)
