import pytest
import timm
import torch
import torch.nn.functional as F
from graph_helpers import Net
from pass_checks import computing, targets
from slow_cases import mostly_slow
from timm import layers
from timm.layers.grn import GlobalResponseNorm
from torch import nn

from snnconvert.convert.capture import capture
from snnconvert.convert.ops import op_name
from snnconvert.convert.passes.lower_norms import NORMALIZATION, ROLE, mark_normalizations

X = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.1


def marked_graph(function, x=X, **modules):
    torch.manual_seed(1)
    modules.setdefault("c", nn.Conv2d(x.shape[1], 8, 1)) if x.dim() == 4 else None
    net = Net(function, **modules)
    captured = capture(net, x)
    before = targets(captured)
    graph = mark_normalizations(captured)
    assert targets(graph) == before
    with torch.no_grad():
        torch.testing.assert_close(graph(x), net(x))
    return graph


def marked(function, x=X, **modules):
    """Operators of the marked nodes, in order."""
    graph = marked_graph(function, x, **modules)
    return [op_name(node) for node in computing(graph) if node.meta.get(ROLE) == NORMALIZATION]


def rms(x):
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)


class TestMarked:
    @pytest.mark.parametrize(
        "norm", mostly_slow([nn.GroupNorm(2, 8), layers.LayerNorm2d(8), nn.InstanceNorm2d(8)], keep=2)
    )
    def test_named(self, norm):
        assert len(marked(lambda n, x: n.m(n.c(x)), m=norm)) == 1

    def test_rms_norm_of_timm(self):
        x = X.flatten(2)
        assert marked(lambda n, x: n.m(x), x, m=layers.RmsNorm(36)) == ["rms_norm"]
        assert marked(lambda n, x: n.m(n.c(x)), m=layers.RmsNorm2d(8)) == ["pow", "mean", "add", "rsqrt", "mul"]

    def test_simple_norm(self):
        names = marked(lambda n, x: n.m(n.c(x)), m=layers.SimpleNorm2d(8))
        assert names == ["var", "add", "rsqrt", "mul"]

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: x / torch.sqrt(x.pow(2).mean(1, keepdim=True) + 1e-6),
            lambda x: x * (x.pow(2).mean(1, keepdim=True) + 1e-6).pow(-0.5),
            lambda x: x * (x * x).mean(1, keepdim=True).add(1e-6).sqrt().reciprocal(),
            lambda x: x.pow(2).sum(1, keepdim=True).clamp(min=1e-6).rsqrt().expand_as(x) * x,
        ],
    )
    def test_rms_norm_by_hand(self, function):
        assert len(marked(lambda n, x: function(n.c(x)))) in (5, 6)

    def test_layer_norm_with_variance(self):
        names = marked(
            lambda n, x: (
                ((y := n.c(x)) - y.mean(1, keepdim=True))
                / torch.sqrt(y.var(1, keepdim=True, unbiased=False) + 1e-5)
                * 0.5
            )
        )
        assert sorted(names) == sorted(["mean", "sub", "var", "add", "sqrt", "div"])

    def test_layer_norm_from_centered_squares(self):
        def forward(n, x):
            y = n.c(x)
            centered = y - y.mean(1, keepdim=True)
            return centered * (centered.pow(2).mean(1, keepdim=True) + 1e-5).rsqrt()

        assert marked(forward) == ["mean", "sub", "pow", "mean", "add", "rsqrt", "mul"]

    def test_layer_norm_with_variance_and_mean_at_once(self):
        def forward(n, x):
            variance, mean = torch.var_mean(y := n.c(x), dim=1, keepdim=True)
            return (y - mean) * (variance + 1e-5).rsqrt()

        names = marked(forward)
        assert names[0] == "var_mean"
        assert names[-1] == "mul"
        assert "sub" in names

    @pytest.mark.parametrize("p", [1.0, 2.0])
    def test_normalize(self, p):
        names = marked(lambda n, x: F.normalize(n.c(x), p=p, dim=1))
        assert names == ["linalg_vector_norm", "clamp_min", "expand", "div"]

    def test_global_response_norm(self):
        names = marked(lambda n, x: n.m(n.c(x)), m=GlobalResponseNorm(8, channels_last=False))
        assert names == ["linalg_vector_norm", "mean", "add", "div", "mul"]

    def test_local_response_norm(self):
        names = marked(lambda n, x: F.local_response_norm(n.c(x), 3))
        assert names[-1] == "div"
        assert "avg_pool3d" in names

    def test_filter_response_norm(self):
        names = marked(lambda n, x: n.m(n.c(x)), m=layers.filter_response_norm.FilterResponseNormTlu2d(8))
        assert names == ["square", "mean", "add", "rsqrt", "expand", "mul"]

    def test_queries_and_keys(self):
        def forward(n, x):
            q, k = n.c(x).flatten(2).chunk(2, 1)
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT

        assert marked(forward).count("div") == 2

    def test_one_after_another(self):
        names = marked(lambda n, x: rms(rms(n.c(x)) * 2 + 1))
        assert names.count("rsqrt") == names.count("mean") == 2
        assert names.count("mul") == 2


class TestNotMarked:
    def none(self, function, x=X, **modules):
        assert marked(function, x, **modules) == []

    @pytest.mark.parametrize(
        "block",
        mostly_slow([
            layers.SEModule(8), layers.EffectiveSEModule(8), layers.EcaModule(8), layers.cbam.CbamModule(8),
            layers.GatherExcite(8, use_mlp=False), layers.SplitAttn(8),
        ], keep=2),
        ids=lambda block: type(block).__name__,
    )  # fmt: skip
    def test_gates(self, block):
        torch.manual_seed(1)
        self.none(lambda n, x: n.m(n.c(x)), m=block.eval())

    def test_gated_linear_units(self):
        self.none(lambda n, x: F.glu(n.c(x), 1))
        self.none(lambda n, x: torch.mul(*n.c(x).chunk(2, 1)))
        self.none(lambda n, x: n.m(n.c(x).flatten(2)), m=layers.SwiGLU(36, 12))
        self.none(lambda n, x: n.m(n.c(x).flatten(2)), m=layers.GluMlp(36, 16))

    def test_a_product_of_normalized_halves_is_no_second_normalization(self):
        names = marked(lambda n, x: torch.mul(*rms(n.c(x)).chunk(2, 1)))
        assert names.count("mul") == 1

    def test_means_as_factors(self):
        self.none(lambda n, x: (y := n.c(x)) * y.mean((2, 3), keepdim=True))
        self.none(lambda n, x: (y := n.c(x)) * y.std(1, keepdim=True))

    def test_statistics_of_something_else(self):
        self.none(lambda n, x: n.c(x) / n.d(x).norm(dim=1, keepdim=True), d=nn.Conv2d(8, 8, 3, padding=1))

    def test_softmax_written_out(self):
        self.none(lambda n, x: (e := n.c(x).exp()) / e.sum(1, keepdim=True))

    def test_constants(self):
        self.none(lambda n, x: n.c(x) / n.c.weight.norm() * n.c.weight.mean().rsqrt().nan_to_num(1.0))
        self.none(lambda n, x: n.c(x) / 3 * torch.tensor(2.0))


@pytest.mark.slow
def test_convnext_v2():
    torch.manual_seed(2)
    net = timm.create_model("convnextv2_atto", num_classes=5).eval()
    graph = mark_normalizations(capture(net, torch.randn(1, 3, 32, 32)))
    norms = [node for node in computing(graph) if "norm" in op_name(node)]
    products = [
        node for node in computing(graph) if op_name(node) == "mul" and "grn" in str(node.meta["nn_module_stack"])
    ]
    assert all(node.meta.get(ROLE) == NORMALIZATION for node in norms)
    assert len(products) == 12
    assert all(node.meta.get(ROLE) == NORMALIZATION for node in products)
