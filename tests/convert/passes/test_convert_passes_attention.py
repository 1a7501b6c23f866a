import math

import pytest
import timm
import torch
import torch.nn.functional as F
from graph_helpers import Net, count
from pass_checks import check, computing, targets
from slow_cases import mostly_slow
from torch import nn

from snnconvert.convert.capture import capture
from snnconvert.convert.passes.lower_attention import lower_attention

X = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
attend = F.scaled_dot_product_attention


def heads(x, number=3):
    """[N, L, E] to [N, heads, L, E / heads]."""
    return x.unflatten(-1, (number, -1)).transpose(1, 2)


def lowered(function, x=X, *, attentions=1, tolerance=1e-5, **modules):
    torch.manual_seed(1)
    net = Net(function, **modules)
    graph = capture(net, x)
    assert count(graph, "scaled_dot_product_attention") == attentions
    graph = lower_attention(graph)
    assert count(graph, "scaled_dot_product_attention") == 0
    assert targets(graph).count("matmul") == 2 * attentions
    assert targets(graph).count("softmax") == attentions
    check(graph, net, x, tolerance)
    return graph


def qkv(net, x):
    return [heads(layer(x)) for layer in (net.q, net.k, net.v)]


def projections():
    torch.manual_seed(2)
    return {"q": nn.Linear(24, 24), "k": nn.Linear(24, 24), "v": nn.Linear(24, 24)}


def test_plain_attention_scales_the_scores():
    graph = lowered(lambda n, x: attend(*qkv(n, x)), **projections())
    (scale,) = [node for node in computing(graph) if "mul.Tensor" in str(node.target)]
    assert scale.args[0].target is torch.ops.aten.matmul.default
    assert scale.args[1] == pytest.approx(1 / math.sqrt(8))


@pytest.mark.parametrize("scale", mostly_slow([0.7, 2, 1.0], keep=[0.7]))
def test_a_scale_of_its_own(scale):
    graph = lowered(lambda n, x: attend(*qkv(n, x), scale=scale), **projections())
    assert targets(graph).count("mul") == (scale != 1.0)


def test_queries_of_another_length():
    def forward(n, x):
        q, k, v = qkv(n, x)
        return attend(q[:, :, :2], k, v)

    lowered(forward, **projections())


def test_values_of_another_width():
    def forward(n, x):
        q, k, v = qkv(n, x)
        return attend(q, k, torch.cat([v, v * 2], -1))

    lowered(forward, **projections())


class TestCausal:
    def test_square(self):
        graph = lowered(lambda n, x: attend(*qkv(n, x), is_causal=True), **projections())
        assert count(graph, "tril") == 0
        assert count(graph, "all") == 0

    @pytest.mark.parametrize("rows", [1, 2, 5])
    def test_fewer_queries_than_keys(self, rows):
        def forward(n, x):
            q, k, v = qkv(n, x)
            return attend(q[:, :, :rows], k, v, is_causal=True)

        lowered(forward, **projections())

    def test_fewer_keys_than_queries(self):
        def forward(n, x):
            q, k, v = qkv(n, x)
            return attend(q, k[:, :, :2], v[:, :, :2], is_causal=True)

        lowered(forward, **projections())

    def test_a_length_as_dynamic_as_the_batch(self):
        """A sample that attends to the samples before it: a mask of a size known at runtime only."""

        def forward(n, x):
            q, k, v = (layer(x.flatten(1)).unsqueeze(0) for layer in (n.q, n.k, n.v))
            return attend(q, k, v, is_causal=True).squeeze(0)

        torch.manual_seed(3)
        layers = {name: nn.Linear(120, 8) for name in "qkv"}
        graph = lowered(forward, **layers)
        assert count(graph, "tril") == 1


class TestMasks:
    def test_additive(self):
        mask = nn.Parameter(torch.randn(3, 5, 5))
        graph = lowered(lambda n, x: attend(*qkv(n, x), attn_mask=n.mask), mask=mask, **projections())
        assert count(graph, "all") == 0

    def test_boolean(self):
        mask = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) > 0.4
        mask.fill_diagonal_(True)
        graph = lowered(lambda n, x: attend(*qkv(n, x), attn_mask=mask), **projections())
        assert count(graph, "masked_fill") == 1
        assert count(graph, "all") == 0

    def test_of_the_input(self):
        def forward(n, x):
            seen = (x.sum(-1) > 0)[:, None, None, :]
            return attend(*qkv(n, x), attn_mask=seen.expand(-1, 1, 5, 5))

        graph = lowered(forward, x=X.abs() - 0.7, **projections())
        assert count(graph, "all") == 1

    @pytest.mark.parametrize("boolean", [True, False])
    def test_a_row_that_sees_nothing_gives_zero(self, boolean):
        seen = torch.ones(5, 5, dtype=torch.bool).tril(-1)
        mask = seen if boolean else torch.zeros(5, 5).masked_fill(~seen, -math.inf)
        q = heads(X)
        assert torch.equal(attend(q, q, q, attn_mask=mask)[:, :, 0], torch.zeros(2, 3, 8))
        graph = lowered(lambda n, x: attend(*qkv(n, x), attn_mask=mask), **projections())
        assert count(graph, "all") == 1


@pytest.mark.parametrize("shared", mostly_slow([1, 2, 6], keep=[2]))
def test_heads_of_keys_shared_by_queries(shared):
    torch.manual_seed(4)
    layers = {"q": nn.Linear(24, 24), "k": nn.Linear(24, 4 * shared), "v": nn.Linear(24, 4 * shared)}

    def forward(n, x):
        q, k, v = heads(n.q(x), 6), heads(n.k(x), shared), heads(n.v(x), shared)
        return attend(q, k, v, enable_gqa=True, is_causal=True)

    lowered(forward, **layers)


def test_dropout_is_left_alone():
    """Captures are of evaluation mode; a graph with active dropout is not this pass's to change."""
    net = Net(lambda n, x: attend(*qkv(n, x)), **projections())
    graph = capture(net, X)
    (node,) = [node for node in computing(graph) if "attention" in str(node.target)]
    node.args = (*node.args[:3], None, 0.5)
    assert count(lower_attention(graph), "scaled_dot_product_attention") == 1


def test_multihead_attention():
    torch.manual_seed(5)
    attention = nn.MultiheadAttention(24, 4, batch_first=True)
    graph = lowered(lambda n, x: n.a(x, x * 2, x - 1, need_weights=False)[0], a=attention)
    assert targets(graph).count("linear") == 4


def test_multihead_attention_with_weights_is_written_out_already():
    torch.manual_seed(5)
    attention = nn.MultiheadAttention(24, 4, batch_first=True)
    graph = lower_attention(capture(Net(lambda n, x: n.a(x, x, x)[0], a=attention), X))
    assert count(graph, "native", "fast", "scaled_dot") == 0


def test_transformer_encoder():
    torch.manual_seed(6)
    layer = nn.TransformerEncoderLayer(24, 4, 32, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    graph = lowered(lambda n, x: n.e(x), e=encoder, attentions=2)
    assert targets(graph).count("linear") == 8
    assert count(graph, "native_multi", "transformer_encoder") == 0


def test_vision_transformer():
    torch.manual_seed(7)
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10).eval()
    graph = lower_attention(capture(net, torch.randn(2, 3, 32, 32)))
    assert targets(graph).count("matmul") == 24
    check(graph, net, torch.randn(2, 3, 32, 32), tolerance=1e-4)
    names = [node.meta["layer"] for node in computing(graph) if "softmax" in str(node.target)]
    assert names[0].startswith("blocks.0.attn")
    assert len(names) == 12
