"""Small networks that convert after one capture each, and what the engine tests compare."""

import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import fx, nn

import snnconvert
from snnconvert.api import calibrate, prepare
from snnconvert.convert.planner import make_plan
from snnconvert.neurons.neuron import SpikingNeuron

SHAPES = [(bits, T) for bits in range(1, 9) for T in range(1, 9) if bits * T <= 8]
RATE_NEURONS = {
    "if": ("if", 1, 8),
    "bursts": ("if", 2, 4),
    "v0": ("if:v0=0.0", 1, 6),
    "hard": ("if:reset=hard", 1, 8),
    "lif": ("lif:leak=0.9", 1, 8),
    "ternary": ("ternary", 1, 8),
    "multithreshold": ("multithreshold", 3, 4),
    "ecmt": ("multithreshold:rule=ecmt", 3, 4),
    "differential": ("differential", 3, 4),
    "spikepack": ("spikepack", 1, 6),
}


class Net(nn.Module):
    """A network from named modules and a function forward(net, x)."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs, outputs, kernel=3, *, cls=nn.Conv2d, **settings):
    return cls(inputs, outputs, kernel, **{"padding": kernel // 2, **settings})


def normed(*arguments, **settings):
    layer = conv(*arguments, bias=False, **settings)
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))


def chain():
    return nn.Sequential(
        conv(3, 6), nn.ReLU(), conv(6, 6, stride=2), nn.ReLU(), conv(6, 6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
    )


def residual():
    def forward(n, x):
        x = F.relu(n.stem(x))
        x = F.relu(n.second(F.relu(n.first(x))) + n.shortcut(x))
        x = F.relu(n.third(x) + x)
        return n.head(x.mean((2, 3)))

    return Net(
        forward, stem=normed(3, 6), first=normed(6, 8, stride=2), second=normed(8, 8), shortcut=conv(6, 8, 1, stride=2),
        third=conv(8, 8), head=nn.Linear(8, 5),
    )  # fmt: skip


def concat_pools():
    def forward(n, x):
        x = n.pool(F.relu(n.stem(x)))
        x = torch.cat([F.relu(n.left(x)), F.relu(n.right(x)), x], 1)
        return n.head(F.relu(n.mix(n.average(x))).mean((2, 3)))

    return Net(
        forward, stem=conv(3, 5), pool=nn.MaxPool2d(3, 2, 1), left=conv(5, 4, 1), right=conv(5, 3),
        average=nn.AvgPool2d(2), mix=conv(12, 6), head=nn.Linear(6, 5),
    )  # fmt: skip


def average_pools():
    def forward(n, x):
        x = F.avg_pool2d(F.relu(n.stem(x)), 2)
        x = torch.cat([n.left(x), F.avg_pool2d(n.right(x), 3, 1, 1)], 1)
        return n.head(F.relu(F.adaptive_avg_pool2d(F.relu(x), 2)).flatten(1))

    return Net(forward, stem=conv(3, 6), left=conv(6, 4, 1), right=conv(6, 4), head=nn.Linear(32, 5))


def preactivation():
    def forward(n, x):
        x = n.stem(x)
        x = x + n.conv1(F.relu(n.bn1(x)))
        x = x + n.conv2(F.relu(n.bn2(x)))
        return n.head(F.relu(n.bn3(x)).mean((2, 3)))

    parts = {f"bn{i}": nn.BatchNorm2d(6) for i in (1, 2, 3)}
    nn.init.uniform_(parts["bn2"].weight, -1.5, 1.5)
    return Net(forward, stem=conv(3, 6), conv1=conv(6, 6), conv2=conv(6, 6), head=nn.Linear(6, 5), **parts)


def tokens():
    def forward(n, x):
        x = n.fc0(x)
        x = x + n.fc2(F.relu(n.fc1(x)))
        return n.head(F.relu(x).mean(1))

    return Net(forward, fc0=nn.Linear(7, 8), fc1=nn.Linear(8, 12), fc2=nn.Linear(12, 8), head=nn.Linear(8, 4))


def signed():
    """No activations between synapses: spikes with an offset, into padded, strided and dilated windows."""

    def forward(n, x):
        x = n.second(n.first(x))
        x = n.third(F.pad(x, (2, 0, 1, 3)))
        x = n.fourth(F.pad(F.relu(n.fifth(x)), (1, 2, 0, 1)))
        return n.head(F.relu(x).flatten(1))

    return Net(
        forward, first=conv(3, 8), second=conv(8, 8, groups=2), third=conv(8, 6, padding=2, dilation=2, stride=2),
        fifth=conv(6, 6, padding=2), fourth=conv(6, 4, padding=0), head=nn.Linear(4 * 7 * 8, 5),
    )  # fmt: skip


def flattened():
    """Currents that change their layout, and so are real numbers on their way to the next neurons."""

    def forward(n, x):
        x = n.inner(n.stem(x).flatten(1))
        return n.head(F.relu(x.view(-1, 4, 3).transpose(1, 2)).flatten(1))

    return Net(forward, stem=conv(3, 4, stride=2), inner=nn.Linear(64, 12), head=nn.Linear(12, 5))


def geometry():
    return nn.Sequential(
        conv(3, 8, stride=2, groups=1), nn.ReLU(), conv(8, 8, groups=8), nn.ReLU(), conv(8, 12, 1, groups=4), nn.ReLU(),
        nn.Conv2d(12, 6, (3, 1), stride=(1, 2), padding=(2, 0), dilation=(2, 1), groups=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


def conv1d():
    one = functools.partial(conv, cls=nn.Conv1d)
    return nn.Sequential(
        one(4, 6, 5), nn.ReLU(), nn.MaxPool1d(2), one(6, 6, groups=2), nn.BatchNorm1d(6), nn.ReLU(),
        one(6, 5, stride=2, dilation=2), nn.ReLU(), nn.Flatten(), nn.Linear(20, 4),
    )  # fmt: skip


def conv3d():
    three = functools.partial(conv, cls=nn.Conv3d)
    return nn.Sequential(
        three(2, 4), nn.ReLU(), nn.MaxPool3d(2), three(4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )


def repeaters():
    """Max-pools whose result several synapses read, one behind another, beside a synapse in front of them."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        once = F.max_pool2d(x, 2)
        twice = F.max_pool2d(once, 3, 1, 1)
        x = F.relu(n.a(once) + n.b(twice) + F.max_pool2d(n.c(x), 2))
        return n.head(F.max_pool2d(x, 2).flatten(1))

    return Net(forward, stem=conv(3, 5), a=conv(5, 5), b=conv(5, 5, 1), c=conv(5, 5), head=nn.Linear(20, 5))


def shared():
    """Spikes that several synapses read and that join sums themselves."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        y = F.relu(n.a(x) + n.b(x) + x)
        z = n.c(torch.cat([y, x], 1)) + y + y
        return n.head(F.relu(z).flatten(1)) + n.other(x.flatten(1))

    return Net(
        forward, stem=conv(3, 4, stride=2), a=conv(4, 4), b=conv(4, 4, 1), c=conv(8, 4), head=nn.Linear(64, 5),
        other=nn.Linear(64, 5),
    )  # fmt: skip


def clips():
    """Spikes of neurons with and without an upper clip that meet in a concat."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        clipped = F.relu6(8 * n.b(x))
        y = torch.cat([F.relu(12 * n.a(x)), clipped], 1)
        return n.head(F.relu(n.c(y)).flatten(1))

    return Net(forward, stem=conv(3, 4, stride=2), a=conv(4, 4), b=conv(4, 3, 1), c=conv(7, 4), head=nn.Linear(64, 5))


def relu6():
    def block(n, x, i):
        inner = F.relu6(getattr(n, f"expand{i}")(x))
        return getattr(n, f"project{i}")(F.relu6(getattr(n, f"depth{i}")(inner)))

    def forward(n, x):
        x = F.relu6(3 * n.stem(x))
        x = block(n, x, 0)
        x = x + block(n, x, 1)
        return n.head(F.hardtanh(n.last(x), 0.0, 1.0).mean((2, 3)))

    parts = {"stem": conv(3, 6, stride=2), "last": conv(6, 8, 1), "head": nn.Linear(8, 4)}
    for i in (0, 1):
        parts |= {f"expand{i}": normed(6, 12, 1), f"depth{i}": normed(12, 12, groups=12), f"project{i}": conv(12, 6, 1)}
    return Net(forward, **parts)


def attention(*, class_token=False):
    """One transformer block; with a class token its graph computes with the batch size."""

    def forward(n, x):
        x = n.embed(x).flatten(2).transpose(1, 2)
        if class_token:
            x = torch.cat([n.token.weight[None].expand(x.shape[0], -1, -1), x], 1)
        N, L, C = x.shape
        q, k, v = n.qkv(n.norm1(x)).reshape(N, L, 3, 2, C // 2).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (C // 2) ** -0.5).softmax(-1)
        x = x + n.project((weights @ v).transpose(1, 2).reshape(N, L, C))
        x = x + n.fc2(F.gelu(n.fc1(n.norm2(x))))
        return n.head(x[:, 0] if class_token else x.mean(1))

    return Net(
        forward, embed=nn.Conv2d(3, 12, 4, stride=4), token=nn.Embedding(1, 12), norm1=nn.LayerNorm(12),
        norm2=nn.LayerNorm(12), qkv=nn.Linear(12, 36), project=nn.Linear(12, 12), fc1=nn.Linear(12, 20),
        fc2=nn.Linear(20, 12), head=nn.Linear(12, 5),
    )  # fmt: skip


def gates():
    """Analog products in the middle: squeeze-and-excitation and a smooth activation."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        x = x * torch.sigmoid(n.up(F.relu(n.down(x.mean((2, 3), keepdim=True)))))
        return n.head(F.silu(n.mix(x)).mean((2, 3)))

    return Net(
        forward, stem=conv(3, 8, stride=2), down=conv(8, 4, 1), up=conv(4, 8, 1), mix=conv(8, 8), head=nn.Linear(8, 4)
    )


def layouts():
    """Spikes that are moved about between neuron and synapse."""

    def forward(n, x):
        x = F.relu(n.stem(x))
        x = torch.cat([*reversed(x.chunk(2, 1))], 1)
        x = F.relu(n.a(torch.roll(torch.flip(F.channel_shuffle(x, 2), (2,)), 1, 3)))
        left, right = F.pixel_shuffle(x, 2).split([1, 1], 1)
        x = F.relu(n.b(left) + n.c(right.transpose(2, 3)))
        x = F.pixel_unshuffle(x, 4)[:, 2:9, 1:]
        return n.head(x.permute(0, 2, 3, 1).flatten(1, 2)).mean(1)

    return Net(
        forward, stem=conv(3, 8), a=conv(8, 8), b=conv(1, 2, stride=2), c=conv(1, 2, stride=2), head=nn.Linear(7, 5)
    )


def windows():
    """Windows folded into the batch dimension."""

    def forward(n, x):
        N = x.shape[0]
        x = F.relu(n.stem(x))
        x = x.view(N, 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(N * 4, 16, 4)
        x = F.relu(n.inner(x)).reshape(N, 64, 6)
        return n.head(x.mean(1))

    return Net(forward, stem=conv(3, 4), inner=nn.Linear(4, 6), head=nn.Linear(6, 5))


IMAGE = (3, 8, 8)


def pyramid():
    """Currents of three levels, brought to the next one's size by an integer factor and by another, are added up."""

    def forward(n, x):
        fine = F.relu(n.stem(x))
        middle = F.relu(n.down(fine))
        coarse = F.relu(n.deep(middle))
        sides = n.side(middle) + F.interpolate(n.top(coarse), size=middle.shape[2:], mode="nearest")
        whole = n.lateral(fine) + F.interpolate(sides, scale_factor=2.0, mode="nearest-exact")
        both = F.relu(n.smooth(whole)).mean((2, 3)) + F.relu(n.rough(sides)).mean((2, 3))
        return n.head(both)

    return Net(
        forward, stem=normed(3, 6), down=normed(6, 8, stride=2), deep=conv(8, 8, stride=3, padding=0),
        top=conv(8, 5, 1), side=conv(8, 5, 1), lateral=conv(6, 5, 1), smooth=conv(5, 6), rough=conv(5, 6),
        head=nn.Linear(6, 5),
    )  # fmt: skip


def partial_sums():
    """Currents added to the first channels of wider ones, and every other channel of these."""

    def forward(n, x):
        x = n.stem(x)
        y = n.second(F.relu(n.first(x)))
        y[:, :4] += x
        z = n.third(F.relu(y)) + y[:, ::2]
        return n.head(F.relu(z).mean((2, 3)))

    return Net(
        forward, stem=conv(3, 4), first=normed(4, 6), second=normed(6, 8), third=conv(8, 4), head=nn.Linear(4, 5)
    )


NETWORKS = {
    "chain": (chain, IMAGE),
    "residual": (residual, IMAGE),
    "concat_pools": (concat_pools, IMAGE),
    "average_pools": (average_pools, (3, 12, 12)),
    "preactivation": (preactivation, IMAGE),
    "tokens": (tokens, (5, 7)),
    "signed": (signed, IMAGE),
    "flattened": (flattened, IMAGE),
    "geometry": (geometry, IMAGE),
    "conv1d": (conv1d, (4, 20)),
    "conv3d": (conv3d, (2, 4, 4, 4)),
    "repeaters": (repeaters, IMAGE),
    "shared": (shared, IMAGE),
    "clips": (clips, IMAGE),
    "relu6": (relu6, IMAGE),
    "attention": (attention, IMAGE),
    "class_token": (functools.partial(attention, class_token=True), IMAGE),
    "gates": (gates, IMAGE),
    "layouts": (layouts, IMAGE),
    "windows": (windows, IMAGE),
    "pyramid": (pyramid, (3, 10, 10)),
    "partial_sums": (partial_sums, IMAGE),
}
SPIKING_THROUGHOUT = [name for name in NETWORKS if name not in ("attention", "class_token", "gates")]


@functools.cache
def captured(name):
    """A network's graph, captured once, and images for it."""
    build, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        images = torch.randn(12, *shape)
        return prepare(*settled(build(), images)), images


def settled(network, images):
    """The network in evaluation mode with BatchNorm statistics of the images."""
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(images)
    return network.eval(), images


def replanned(prepared, images, **settings):
    """Converts a captured graph with other settings; thresholds that cut off the largest values."""
    one_width = {"shortcut_bits": 1, "last_bits": 1}
    config = snnconvert.ConversionConfig(**{"threshold": "percentile", "percentile": 97.0, **one_width, **settings})
    plan = make_plan(prepared.graph, config)
    return calibrate(dataclasses.replace(prepared, config=config, plan=plan), images, progress=False)


def converted(name, **settings):
    """A converted network and its images."""
    prepared, images = captured(name)
    return replanned(prepared, images, **settings), images


class NeuronValues(fx.Interpreter):
    """Runs a graph packed; keeps what every neuron layer gives, and may put recorded values in its place."""

    def __init__(self, network, recorded=None, *, double=False):
        super().__init__(network)
        self.recorded, self.double = recorded or {}, double
        self.values = {}

    def run_node(self, n):
        module = self.module.get_submodule(n.target) if n.op == "call_module" else None
        if not isinstance(module, SpikingNeuron):
            return super().run_node(n)
        (potential,) = self.fetch_args_kwargs_from_env(n)[0]
        value = module(potential)
        if self.double:
            value = module.code.quantize_(module.in_steps(potential.double()), module.ceiling)
        self.values[n.meta["layer"]] = value
        return self.recorded.get(n.meta["layer"], value)


def packed_words(network, images):
    """Words of every neuron layer in the packed pass, by layer."""
    run = NeuronValues(network)
    with torch.no_grad():
        run.run(images)
    return run.values


def decoded(record):
    """Values z of a recorded layer's spike trains."""
    return record.code.from_spikes(record.spikes)


def own_reading(network, simulation, images, *, double=False):
    """What every neuron layer would give, packed, if all layers before it gave what was recorded; and the output."""
    recorded = {layer: decoded(record).float() for layer, record in simulation.layers.items()}
    run = NeuronValues(network, recorded, double=double)
    with torch.no_grad():
        output = run.run(images)
    return run.values, output


def assert_same_run(one, two):
    """Two simulations agree in every bit of everything that was recorded."""
    assert torch.equal(one.output, two.output)
    assert torch.equal(one.readout, two.readout)
    assert one.readout_ticks == two.readout_ticks
    assert one.ticks == two.ticks
    assert one.adapters == two.adapters
    assert one.layers.keys() == two.layers.keys()
    for name, record in one.layers.items():
        other = two.layers[name]
        assert (record.code, record.start, record.counts) == (other.code, other.start, other.counts), name
        assert record.unevenness == other.unevenness, name
        for kind in ("spikes", "potentials"):
            mine, others = getattr(record, kind), getattr(other, kind)
            assert (mine is None) == (others is None), name
            assert mine is None or (mine.dtype == others.dtype and torch.equal(mine, others)), (name, kind)


def assert_stepwise_is_packed(snn, images, **options):
    """In time a packed network fires its words' digits, layer by layer, and answers the same bits."""
    simulation = snn.simulate(images, record=("spikes",), **options)
    words = packed_words(snn.network, images)
    assert simulation.layers.keys() == words.keys() == {name for name, _ in snn.neurons()}
    for name, record in simulation.layers.items():
        assert record.spikes.dtype == torch.uint8
        assert record.spikes.shape == (record.code.T, *words[name].shape)
        assert torch.equal(record.spikes.long(), record.code.to_spikes(words[name])), name
        assert torch.equal(decoded(record), words[name].double()), name
    assert torch.equal(simulation.output, snn(images))
    assert torch.equal(simulation.output, simulation.readout[-1])
    return simulation
