"""Networks in code as users write it: on spikes as far as they can be, close to the ANN, exact in time and on disk."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, norm
from slow_cases import mostly_slow
from torch import nn
from torch.utils.checkpoint import checkpoint

import snnconvert
from snnconvert import Inputs

IMAGES = (3, 10, 10)


class Case:
    """A network from a function and modules, its input, and which operators may stay analog (None: any)."""

    def __init__(self, function, *, size=IMAGES, least=25.0, analog=(), **modules):
        self.function, self.modules = function, modules
        self.size, self.least, self.analog = size, least, analog

    def net(self):
        torch.manual_seed(0)
        built = {name: module() for name, module in self.modules.items()}
        net = Net(self.function, **built).eval()
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.load_state_dict(norm(module.num_features).state_dict())
        return net


def conv(inputs=8, outputs=8, kernel=3, **options):
    return lambda: nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def linear(inputs, outputs):
    return lambda: nn.Linear(inputs, outputs)


def head(channels=8):
    return lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


def slices(n, x):
    y = n.a(x)
    y[:, :4] = F.relu(y[:, :4])
    y[:, 4:].relu_().mul_(0.5)
    y += n.b(F.relu(y))
    return n.h(n.b(y.relu_()))


def reversible(n, x):
    left, right = n.a(x).chunk(2, 1)
    for _ in range(2):
        left = left + n.f(F.relu(right))
        right = right + n.g(F.relu(left))
    return n.h(torch.cat([left, right], 1))


def runge_kutta(n, x):
    y = n.a(x)
    for time in torch.linspace(0, 1, 3).tolist():
        k = n.b(F.relu(y)) * (1 + time)
        y = y + 0.25 * (k + n.b(F.relu(y + 0.5 * k)))
    return n.h(y)


def attention(n, x):
    tokens = n.p(x).flatten(2).transpose(1, 2)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    return n.o(n.m(tokens, tokens, tokens, attn_mask=mask)[0][:, -1])


def linear_attention(n, x):
    q, k, v = n.qkv(n.p(x).flatten(2).transpose(1, 2)).chunk(3, -1)
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return n.o((q @ (k.transpose(1, 2) @ v)).mean(1))


def cells(n, x):
    hidden = cell = x.new_zeros(x.shape[0], 6)
    for step in range(3):
        hidden, cell = n.lstm(x[:, :, step].flatten(1), (hidden, cell))
        hidden = n.gru(hidden, n.rnn(hidden))
    return n.o(hidden)


def involution(n, x):
    y = F.relu(n.a(x))
    kernels = n.k(y).view(-1, 2, 1, 9, 10, 10)
    return n.h((kernels * F.unfold(y, 3, padding=1).view(-1, 2, 4, 9, 10, 10)).sum(3).flatten(1, 2))


def conditional(n, x):
    y = F.relu(n.a(x))
    kernels = (torch.sigmoid(n.r(y.mean((2, 3)))) @ n.k.weight).view(-1, 8, 3, 3)
    return n.h(F.conv2d(y.reshape(1, -1, 10, 10), kernels, padding=1, groups=y.shape[0]).view(-1, 8, 10, 10))


def mixture(n, x):
    y = n.h(F.relu(n.a(x)))
    outputs = torch.stack([expert(y) for expert in n.experts], 1)
    return (outputs * n.gate(y).softmax(1)[..., None]).sum(1)


def tied(n, x):
    y = F.relu(n.b(F.relu(n.a(x)))).mean((2, 3))
    return F.linear(F.relu(F.linear(y, n.b.weight.view(8, 8))), n.o.weight, n.o.bias)


def imcol(n, x):
    columns = F.unfold(F.relu(n.a(x)), 3, padding=1)
    return n.h(F.relu((n.b.weight.view(8, -1) @ columns).view(-1, 8, 10, 10) + n.b.bias.view(1, -1, 1, 1)))


def unet(n, x):
    y = F.relu(n.norm(n.a(x)))
    z = F.relu(n.b(F.max_pool2d(y, 2)))
    return n.o(F.relu(n.c(torch.cat([y, n.up(z)], 1))))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)


CASES = {
    "one convolution twice": Case(lambda n, x: n.h(F.relu(n.b(F.relu(n.b(n.a(x)))))), a=conv(3), b=conv(), h=head()),
    "weights tied by a view": Case(tied, a=conv(3), b=conv(8, 8, 1), o=linear(8, 5)),
    "checkpoints": Case(
        lambda n, x: n.h(checkpoint(n.b, checkpoint(n.a, x, use_reentrant=False), use_reentrant=True).relu()),
        a=conv(3), b=conv(), h=head(),
    ),
    "writes in place": Case(slices, a=conv(3), b=conv(), h=head(), analog=None),
    "channel shuffle": Case(
        lambda n, x: n.h(F.relu(n.b(nn.functional.channel_shuffle(F.relu(n.a(x)), 4)))),
        a=conv(3), b=conv(groups=4), h=head(),
    ),
    "a convolution by hand": Case(imcol, a=conv(3), b=conv(), h=head(), analog=("add",)),
    "autograd function": Case(lambda n, x: n.h(n.b(Swish.apply(n.a(x)))), a=conv(3), b=conv(), h=head()),
    "einsum": Case(
        lambda n, x: n.h(F.relu(torch.einsum("bchw,dc->bdhw", F.relu(n.a(x)), n.w.weight))),
        a=conv(3), w=linear(8, 6), h=head(6),
    ),
    "tensordot": Case(
        lambda n, x: torch.tensordot(F.relu(n.a(x)), n.w.weight.view(5, 8, 10, 10), ([1, 2, 3], [1, 2, 3])),
        a=conv(3), w=linear(800, 5),
    ),
    "inner": Case(lambda n, x: torch.inner(n.h(F.relu(n.a(x))), n.w.weight), a=conv(3), h=head(), w=linear(5, 4)),
    "product and sum": Case(
        lambda n, x: (n.h(F.relu(n.a(x)))[:, None] * n.w.weight).sum(-1), a=conv(3), h=head(), w=linear(5, 4)
    ),
    "constant grid": Case(
        lambda n, x: n.h(F.relu(n.b(F.grid_sample(F.relu(n.a(x)), F.affine_grid(
            torch.tensor([[[0.9, 0.1, 0], [-0.1, 0.9, 0]]]).expand(x.shape[0], 2, 3), (x.shape[0], 8, 10, 10),
            align_corners=False), align_corners=False)))),
        a=conv(3), b=conv(), h=head(), analog=("grid_sampler_2d",),
    ),
    "nearest exact": Case(
        lambda n, x: n.h(F.relu(n.b(F.interpolate(F.relu(n.a(x)), scale_factor=1.3, mode="nearest-exact")))),
        a=conv(3), b=conv(), h=head(),
    ),
    "glu": Case(lambda n, x: n.h(F.glu(n.b(F.glu(n.a(x), 1)), 1)), a=conv(3, 16), b=conv(8, 16), h=head()),
    "maxout": Case(
        lambda n, x: n.h(n.b(torch.maximum(n.a(x)[:, :4], n.a(x)[:, 4:]))), a=conv(3), b=conv(4), h=head(),
        analog=("maximum",),
    ),
    "squeeze, excite and look": Case(
        lambda n, x: n.h((y := F.relu(n.a(x))) * n.f(y.mean((2, 3))).sigmoid()[..., None, None] * n.g(y).sigmoid()),
        a=conv(3), f=linear(8, 8), g=conv(8, 1), h=head(),
    ),
    "masked attention": Case(attention, p=lambda: nn.Conv2d(3, 8, 5, 5), o=linear(8, 5),
                             m=lambda: nn.MultiheadAttention(8, 2, batch_first=True), analog=("softmax", "add", "mul")),
    "linear attention": Case(linear_attention, p=lambda: nn.Conv2d(3, 8, 5, 5), qkv=linear(8, 24), o=linear(8, 5),
                             analog=("mean",)),
    "recurrent cells": Case(cells, lstm=lambda: nn.LSTMCell(30, 6), gru=lambda: nn.GRUCell(6, 6),
                            rnn=lambda: nn.RNNCell(6, 6), o=linear(6, 5), analog=None),
    "projected lstm": Case(lambda n, x: n.o(n.m(x)[0][:, -1]), size=(4, 6), o=linear(3, 5), analog=("add",),
                           m=lambda: nn.LSTM(6, 5, proj_size=3, batch_first=True)),
    "involution": Case(involution, a=conv(3), k=conv(8, 18, 1), h=head(), analog=("sum", "adaptive_avg_pool2d")),
    "kernels per sample": Case(conditional, a=conv(3), r=linear(8, 3), k=linear(576, 3), h=head(),
                               analog=("adaptive_avg_pool2d",)),
    "mixture of experts": Case(mixture, a=conv(3), h=head(), gate=linear(5, 3), analog=("cat", "softmax", "sum"),
                               experts=lambda: nn.ModuleList(nn.Linear(5, 4) for _ in range(3))),
    "reversible": Case(reversible, a=conv(3), f=conv(4, 4), g=conv(4, 4), h=head(), analog=None),
    "differential equation": Case(runge_kutta, a=conv(3), b=conv(), h=head(), analog=None),
    "normalization of a concat": Case(
        lambda n, x: n.h(n.c(F.relu(n.norm(torch.cat([n.a(x), F.relu(n.b(x)), x], 1))))),
        a=conv(3), b=conv(3), norm=lambda: nn.BatchNorm2d(19), c=conv(19), h=head(), analog=("cat",),
    ),
    "u-net": Case(unet, a=conv(3), norm=lambda: nn.BatchNorm2d(8), b=conv(), up=lambda: nn.ConvTranspose2d(8, 8, 2, 2),
                  c=conv(16), o=conv(8, 2, 1)),
    "max-unpool": Case(
        lambda n, x: n.h(F.relu(n.b(F.max_unpool2d(*F.max_pool2d(F.relu(n.a(x)), 2, return_indices=True), 2)))),
        a=conv(3), b=conv(), h=head(), analog=("max_pool2d_with_indices", "max_unpool2d"),
    ),
    "fourier layer": Case(
        lambda n, x: n.h(F.relu(n.b(torch.fft.fft(torch.fft.fft(F.relu(n.a(x)), dim=-1), dim=1).real))),
        a=conv(3), b=conv(), h=head(), analog=("fft_fft", "view_as_real"),
    ),
    "complex product": Case(
        lambda n, x: n.h(F.relu(n.b(torch.fft.irfft2(torch.fft.rfft2(F.relu(n.a(x))) * torch.tensor(1j).exp())))),
        a=conv(3), b=conv(), h=head(), analog=None,
    ),
    "learned clip": Case(
        lambda n, x: n.h(F.relu(n.b(torch.minimum(F.relu(n.a(x)), n.clip.weight.view(()).abs())))),
        a=conv(3), b=conv(), h=head(), clip=lambda: nn.Embedding(1, 1),
    ),
    "clip written as absolute values": Case(
        lambda n, x: n.h(F.relu(n.b(0.5 * ((y := n.a(x)).abs() - (y - 2).abs() + 2)))), a=conv(3), b=conv(), h=head()
    ),
    "cosine classes": Case(
        lambda n, x: F.cosine_similarity(n.h(F.relu(n.a(x)))[:, None], n.w.weight[None], dim=-1), a=conv(3), h=head(),
        w=linear(5, 4), analog=None,
    ),
    "radial splines": Case(
        lambda n, x: n.o(torch.exp(-((n.l(x)[..., None] - torch.linspace(-2, 2, 5)) ** 2)).flatten(1)), size=(6,),
        l=linear(6, 8), o=linear(40, 4), analog=None,
    ),
    "audio": Case(
        lambda n, x: n.o(F.relu(n.b(F.max_pool1d(F.relu(n.norm(n.a(x))), 4))).mean(-1)), size=(1, 120),
        a=lambda: nn.Conv1d(1, 8, 9, 2), norm=lambda: nn.BatchNorm1d(8), b=lambda: nn.Conv1d(8, 8, 3), o=linear(8, 4),
        analog=("mean",),
    ),
    "video": Case(
        lambda n, x: n.o(F.silu(n.b(F.max_pool3d(F.relu(n.a(x)), (1, 2, 2)))).mean((2, 3, 4))), size=(3, 4, 8, 8),
        a=lambda: nn.Conv3d(3, 8, (3, 3, 3), padding=1), b=lambda: nn.Conv3d(8, 8, (1, 3, 3), groups=2), o=linear(8, 4),
        analog=("mean",),
    ),
    "sets": Case(
        lambda n, x: n.o(F.relu(n.l(x)).max(1)[0]), size=(9, 5), l=linear(5, 8), o=linear(8, 3), analog=("max",)
    ),
    "a scan": Case(
        lambda n, x: n.o(sum(torch.sigmoid(n.d.weight.view(-1)) ** i * n.l(x[:, i]) for i in range(3))), size=(3, 5),
        l=linear(5, 8), d=linear(8, 1), o=linear(8, 3), analog=None,
    ),
}  # fmt: skip


def sqnr(expected, actual):
    return float(10 * torch.log10(expected.square().sum() / (expected - actual).square().sum()))


QUICK = [
    "checkpoints", "writes in place", "channel shuffle", "autograd function",
    "constant grid", "glu", "mixture of experts", "kernels per sample", "u-net",
    "learned clip", "sets",
]  # fmt: skip


@pytest.mark.parametrize("name", mostly_slow(CASES, keep=QUICK))
def test_odd_networks(name, tmp_path):
    case = CASES[name]
    net, x = case.net(), torch.randn(16, *case.size, generator=torch.Generator().manual_seed(1))
    snn = snnconvert.convert(net, x, progress=False)
    assert snn.plan.coverage == 1.0
    assert case.analog is None or {item.op for item in snn.plan.analog} <= set(case.analog)
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")
    with torch.no_grad():
        assert sqnr(net(x), snn(x)) > case.least
        for batch in (1, 2, 5):
            output = snn(x[:batch])
            assert torch.equal(snn.simulate(x[:batch]).output, output)
            assert snn.plan.analog or torch.equal(snn(x)[:batch], output)
        assert torch.equal(loaded(x[:2]), snn(x[:2]))


def test_one_number_for_the_whole_batch_only_scales():
    net = Net(lambda n, x, scale: n.h(F.relu(n.a(x)) * scale), a=conv(3)(), h=head()())
    net.forward = lambda x, scale: net.function(net, x, scale)
    x, scale = torch.randn(16, *IMAGES), torch.tensor(2.0)
    snn = snnconvert.convert(net, [Inputs(x, scale)], progress=False)
    assert not any(item.held for item in snn.plan.synapses)
    with torch.no_grad():
        assert sqnr(net(x, scale), snn(x, scale)) > 25


def test_tokens_stay_integers(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 30, bias=False)).eval()
    net[3].weight = net[0].weight
    tokens = torch.randint(0, 30, (16, 7))
    snn = snnconvert.convert(net, [Inputs(tokens)], progress=False)
    snn.save(tmp_path / "net")
    with torch.no_grad():
        assert sqnr(net(tokens), snn(tokens)) > 25
        assert torch.equal(snnconvert.load(tmp_path / "net")(tokens), snn(tokens))
        assert torch.equal(snn.simulate(tokens).output, snn(tokens))


class KeywordOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), head(4)()

    def forward(self, *, x):
        return self.head(F.relu(self.conv(x)))


def test_arguments_that_are_keywords_only():
    net, x = KeywordOnly().eval(), torch.randn(8, *IMAGES)
    snn = snnconvert.convert(net, [{"x": x, "labels": torch.zeros(8)}], progress=False)
    with torch.no_grad():
        assert sqnr(net(x=x), snn(x=x)) > 25


class Deformable(nn.Module):
    def __init__(self):
        super().__init__()
        deformable = pytest.importorskip("torchvision").ops.DeformConv2d
        self.stem, self.offsets = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 18, 3, padding=1)
        self.shift, self.head = deformable(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head(F.relu(self.shift(x, self.offsets(x))))


def test_deformable_convolutions_stay_analog_and_are_counted():
    plan = snnconvert.plan(Deformable().eval(), torch.randn(2, *IMAGES))
    (item,) = [item for item in plan.analog if item.op == "deform_conv2d"]
    assert item.macs == 10 * 10 * 8 * 8 * 9
    assert "torchvision" in item.reason
    assert plan.coverage == pytest.approx(1 - item.macs / (item.macs + sum(each.macs for each in plan.synapses)))
