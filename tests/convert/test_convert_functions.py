"""Networks of smooth activations, gates, attention and unusual synapses: on spikes, close to the ANN, exact in time."""

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert import ConversionConfig
from snnconvert.neurons.product import Product
from snnconvert.neurons.synapse import FLOAT32_EXACT

torch.manual_seed(0)
IMAGES = torch.randn(24, 3, 12, 12)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def sqnr(expected, actual):
    return float(10 * torch.log10(expected.square().sum() / (expected - actual).square().sum()))


def check(net, images=IMAGES, *, least=27.0, folder=None, **settings):
    """Converts, compares with the ANN, runs in time, saves and loads; gives the spiking network."""
    net = net.eval()
    snn = snnconvert.convert(net, images, ConversionConfig(**settings), progress=False)
    test = images[:4] * 0.9
    with torch.no_grad():
        output = snn(test)
        assert sqnr(net(test), output) > least
        assert torch.equal(snn.simulate(test).output, output)
        assert torch.equal(snn.simulate(test, schedule="tick").output, output)
        if folder is not None:
            snn.save(folder)
            assert torch.equal(snnconvert.load(folder)(test), output)
    return snn


ACTIVATIONS = [
    nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(),
    nn.ELU(), nn.SELU(), nn.CELU(0.5), nn.Mish(), nn.LeakyReLU(0.1), nn.PReLU(8), nn.PReLU(), nn.Softsign(),
    nn.LogSigmoid(), nn.Hardtanh(), nn.ReLU6(), nn.Tanhshrink(), nn.RReLU(),
]  # fmt: skip


@pytest.mark.parametrize("activation", mostly_slow(ACTIVATIONS, keep=7), ids=str)
def test_activations_become_neurons(activation, tmp_path):
    if isinstance(activation, nn.PReLU):
        nn.init.uniform_(activation.weight, -0.3, 0.6)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), activation, nn.Conv2d(8, 6, 3))
    snn = check(net, folder=tmp_path / "snn", least=24.0)
    assert snn.plan.analog == ()
    assert [site.origin for site in snn.plan.sites] == ["input", "activation"]


WRITTEN_OUT = {
    "silu": lambda x: x * torch.sigmoid(x),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "hardswish": lambda x: x * F.relu6(x + 3) / 6,
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "squared_relu": lambda x: F.relu(x) ** 2,
    "mish": lambda x: x * torch.tanh(F.softplus(x)),
}


@pytest.mark.parametrize("name", mostly_slow(WRITTEN_OUT, keep=("gelu", "gelu_tanh", "hardswish", "squared_relu")))
def test_activations_written_out_become_one_neuron(name, tmp_path):
    net = Net(lambda n, x: n.b(WRITTEN_OUT[name](n.a(x))), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 6, 3))
    snn = check(net, folder=tmp_path / "snn")
    assert snn.plan.analog == ()
    assert snn.plan.sites[1].layer == ("relu6" if name == "hardsigmoid" else name)


def test_a_scale_read_by_synapses_and_by_analog_layers(tmp_path):
    def forward(n, x):
        scaled = n.a(x).cumsum(1) * -2.0 + 1.0
        return n.b(scaled) + n.c(scaled)

    net = Net(forward, a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 6, 3), c=nn.Conv2d(8, 6, 3))
    snn = check(net, folder=tmp_path / "snn", overrides={"c": {"analog": True}})
    assert {item.layer for item in snn.plan.analog} >= {"c", "add"}


class SqueezeExcite(nn.Module):
    def __init__(self, channels, gate=torch.sigmoid):
        super().__init__()
        self.gate = gate
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * self.gate(self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))))


def test_squeeze_and_excite(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), SqueezeExcite(8), nn.Conv2d(8, 5, 1))
    snn = check(net, folder=tmp_path / "snn")
    assert snn.plan.analog == ()
    assert snn.plan.coverage == 1.0
    (gate,) = [item for item in snn.plan.synapses if item.held is not None]
    assert (gate.op, gate.macs, gate.weight_bits) == ("mul", 8 * 100, 8)


@pytest.mark.parametrize(
    "function",
    mostly_slow([torch.sigmoid, F.silu, F.gelu, F.relu, lambda x: x], keep=[torch.sigmoid, F.gelu]),
    ids=["sigmoid", "silu", "gelu", "relu", "none"],
)
def test_gated_linear_units(function):
    def forward(n, x):
        left, right = n.up(x.flatten(2).transpose(1, 2)).chunk(2, -1)
        return n.down(function(left) * right)

    snn = check(Net(forward, up=nn.Linear(3, 16), down=nn.Linear(8, 4)))
    assert [item.op for item in snn.plan.synapses] == ["linear", "mul", "linear"]


def test_residuals_of_gates_stay_sums_of_integers():
    def forward(n, x):
        y = F.silu(n.a(x))
        y = y + n.gate(n.b(y))
        return n.c(F.relu(y + n.b(y)))

    net = Net(
        forward, a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 8, 3, padding=1), c=nn.Conv2d(8, 4, 1), gate=SqueezeExcite(8)
    )
    assert check(net).plan.analog == ()


@pytest.mark.parametrize("masked", mostly_slow([False, True], keep=[True]))
def test_attention(masked, tmp_path):
    def forward(n, x):
        q, k, v = n.qkv(x.flatten(2).transpose(1, 2)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mask = torch.ones(144, 144, dtype=torch.bool).tril() if masked else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return n.out(y.transpose(1, 2).flatten(2))

    snn = check(Net(forward, qkv=nn.Linear(3, 24), out=nn.Linear(8, 4)), folder=tmp_path / "snn")
    assert [item.op for item in snn.plan.synapses] == ["linear", "matmul", "matmul", "linear"]
    assert {item.op for item in snn.plan.analog} <= {"mul", "add", "softmax", "masked_fill", "where"}


def test_attention_beyond_float32():
    """600 keys of 8-bit words may sum past 2^24: summed in float64, the same in both engines."""
    net = Net(
        lambda n, x: n.out((torch.softmax(n.q(x) @ n.q(x).mT, -1)) @ n.v(x)),
        q=nn.Linear(6, 6), v=nn.Linear(6, 6), out=nn.Linear(6, 3),
    )  # fmt: skip
    check(net, torch.randn(6, 600, 6).abs())


class PixelAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.query, self.value, self.out = (
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in ((3, 4), (4, 4), (4, 4), (4, 2))
        )

    def forward(self, x):
        features = F.relu(self.stem(x))
        query, value = self.query(features).flatten(2), F.relu(self.value(features)).flatten(2)
        weights = torch.sigmoid(query.mT @ query)
        return self.out((value @ weights).reshape(features.shape))


def test_sums_over_images_of_any_size_are_exact():
    """The proof holds for larger images than the one that was captured."""
    snn = check(PixelAttention(), dynamic_sizes=True)
    over_channels, over_pixels = (module for module in snn.network.modules() if isinstance(module, Product))
    assert over_channels.bound <= FLOAT32_EXACT < over_pixels.bound
    words = torch.full((1, 1, 96 * 96), 255.0)
    words[..., 1] = 254.0
    assert int(over_pixels(words, torch.full((1, 96 * 96, 1), 255.0))) == 255 * (255 * 96 * 96 - 1)


TRANSPOSED = [
    nn.ConvTranspose2d(6, 4, 2, 2),
    nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1),
    nn.ConvTranspose2d(6, 4, 3, padding=2, dilation=2, groups=2),
    nn.ConvTranspose2d(6, 6, 4, 2, 1, groups=6, bias=False),
]


@pytest.mark.parametrize("layer", mostly_slow(TRANSPOSED, keep=2), ids=str)
def test_transposed_convolutions(layer, tmp_path):
    norm = nn.BatchNorm2d(layer.out_channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), layer, norm, nn.ReLU(), nn.Conv2d(layer.out_channels, 2, 1))
    snn = check(net, folder=tmp_path / "snn")
    assert snn.plan.analog == ()
    assert snn.plan.coverage == 1.0


@pytest.mark.parametrize(
    ("transposed", "shape"), [(nn.ConvTranspose1d(4, 3, 3, 2), (9,)), (nn.ConvTranspose3d(4, 3, 2, 2), (4, 4, 4))]
)
def test_transposed_convolutions_of_other_ranks(transposed, shape):
    first = nn.Conv1d(2, 4, 1) if len(shape) == 1 else nn.Conv3d(2, 4, 1)
    check(nn.Sequential(first, nn.ReLU(), transposed), torch.randn(16, 2, *shape))


@pytest.mark.parametrize(
    "mode", mostly_slow(["reflect", "replicate", "circular", "zeros"], keep=("reflect", "circular"))
)
def test_padding_modes(mode):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 4, 3, padding=1, padding_mode=mode))
    assert check(net).plan.analog == ()


MOVES = {
    "roll": lambda x: torch.roll(x, (2, -1), (2, 3)),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "windows": lambda x: x.unflatten(2, (5, 2)).unflatten(4, (5, 2)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3),
    "flip": lambda x: x.flip(3),
    "unfold": lambda x: F.unfold(x, 2, stride=2).unflatten(2, (5, 5)),
    "stack": lambda x: torch.stack([x[:, :4], x[:, 4:]], 1).flatten(1, 2),
    "slices": lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2]], 1),
    "shuffle": lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
}


@pytest.mark.parametrize(
    "name", mostly_slow(MOVES, keep=("roll", "pixel_shuffle", "nearest", "unfold", "slices", "shuffle"))
)
@pytest.mark.parametrize("activation", mostly_slow([F.relu, F.silu], keep=[F.relu]))
def test_what_moves_values_carries_spikes(name, activation):
    with torch.no_grad():
        channels = MOVES[name](torch.zeros(1, 8, 10, 10)).shape[1]
    net = Net(lambda n, x: n.b(MOVES[name](activation(n.a(x)))), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(channels, 4, 1))
    snn = check(net, IMAGES[:12])
    assert [site.origin for site in snn.plan.sites] == ["input", "activation"]


@pytest.mark.slow
def test_recurrent_layers(tmp_path):
    net = Net(lambda n, x: n.out(n.rnn(x)[0][:, -1]), rnn=nn.LSTM(5, 6, batch_first=True), out=nn.Linear(6, 3))
    snn = check(net, torch.randn(32, 7, 5), folder=tmp_path / "snn")
    assert snn.plan.coverage == 1.0
    assert len({site.family for site in snn.plan.sites}) < 20


CODES = ["packed", "spikepack:tau=1.8", "if", "differential", "multithreshold", "ternary"]


@pytest.mark.parametrize("neuron", mostly_slow(CODES, keep=["packed", "if", "ternary", "differential"]))
@pytest.mark.parametrize("latency", mostly_slow(["streaming", "window"], keep=["streaming"]))
def test_products_and_functions_in_every_code(neuron, latency):
    """What rate codes lose is bounded; the stepwise run is what the network says."""

    def forward(n, x):
        y = F.silu(n.a(x))
        return n.c(y * torch.sigmoid(n.b(y)))

    net = Net(forward, a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 8, 1), c=nn.Conv2d(8, 4, 1))
    bits, T = {"packed": (2, 4), "spikepack:tau=1.8": (1, 8)}.get(neuron, (3, 32))
    config = ConversionConfig(bits=bits, T=T, neuron=neuron)
    snn = snnconvert.convert(net, IMAGES, config, progress=False)
    with torch.no_grad():
        result = snn.simulate(IMAGES[:4], latency=latency).output
        assert sqnr(net(IMAGES[:4]), result) > 15


def test_factors_of_different_time():
    """One factor's words of T=2, the other's of T=4 and of other bits: complete words meet the other's spikes."""

    def forward(n, x):
        return n.d(torch.sigmoid(n.b(F.relu(n.a(x)))) * n.c(x))

    net = Net(forward, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 8, 1), c=nn.Conv2d(3, 8, 1), d=nn.Conv2d(8, 4, 1))
    overrides = {"b": {"bits": 4, "T": 2}}
    snn = snnconvert.convert(net, IMAGES, ConversionConfig(overrides=overrides), progress=False)
    with torch.no_grad():
        simulation = snn.simulate(IMAGES[:4])
        assert torch.equal(simulation.output, snn(IMAGES[:4]))
        assert any("complete words" in adapter.action for adapter in simulation.adapters)
