import copy
import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import fx, nn
from torch.utils.data import DataLoader, TensorDataset

import snnconvert
from snnconvert.errors import ConfigurationError, ConversionError, InputError
from snnconvert.neurons.current import IntegerScale, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse

aten = torch.ops.aten


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class ResidualNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.block1 = Block(8, 8, 1)
        self.block2 = Block(8, 16, 2)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn(self.stem(x))))
        return self.head(self.dropout(self.block2(self.block1(x)).mean((2, 3))))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, stride=2, padding=1, groups=3)
        self.conv2 = nn.Conv2d(12, 16, 3, dilation=2)
        self.head = nn.Linear(16 * 2 * 2, 10)

    def forward(self, x):
        return self.head(torch.relu(self.conv2(torch.relu(self.conv1(x)))).flatten(1))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = nn.Conv2d(3, 6, 1)
        self.mix = nn.Conv2d(12, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return self.head(torch.relu(self.mix(nn.functional.avg_pool2d(x, 2))).mean((2, 3)))


SHAPE = (3, 12, 12)
KINDS = {"residual": ResidualNet, "plain": Plain, "branches": Branches}


def build(kind, count=32):
    """A network with settled BatchNorm statistics, and images."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        network, images = kind().train(), torch.randn(count, *SHAPE)
        with torch.no_grad():
            for _ in range(30):
                network(images)
    return network.eval(), images


def run(network, images):
    with torch.no_grad():
        return network(images)


@pytest.fixture(scope="module", params=KINDS)
def converted(request):
    network, images = build(KINDS[request.param])
    return network, images, snnconvert.convert(network, images, progress=False)


@pytest.fixture(scope="module")
def residual():
    network, images = build(ResidualNet)
    return network, images, snnconvert.convert(network, images, progress=False)


def assert_same(one, two, images):
    """Thresholds, integers, report and outputs are equal."""
    first, second = one.state_dict(), two.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    codes = [[neuron.code for _, neuron in snn.neurons()] for snn in (one, two)]
    assert codes[0] == codes[1]
    assert one.plan == two.plan
    assert one.report.layers == two.report.layers
    assert torch.equal(run(one, images), run(two, images))


# The model is left alone


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_model_is_left_as_it_was():
    network, images = build(ResidualNet)
    network.train()
    network.block1.eval()
    network.stem.weight.requires_grad_(False)
    network.head.weight.grad = torch.ones_like(network.head.weight)
    handle = network.block1.register_forward_hook(lambda *_: None)
    state = state_of(network)
    objects = {name: (id(value), value.data_ptr()) for name, value in network.named_parameters()}
    modes = {name: module.training for name, module in network.named_modules()}
    gradients = {name: value.requires_grad for name, value in network.named_parameters()}
    attributes = {name: set(vars(module)) for name, module in network.named_modules()}
    snnconvert.convert(network, images, progress=False)
    after = network.state_dict()
    assert state.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in state.items())
    assert objects == {name: (id(value), value.data_ptr()) for name, value in network.named_parameters()}
    assert modes == {name: module.training for name, module in network.named_modules()}
    assert gradients == {name: value.requires_grad for name, value in network.named_parameters()}
    assert attributes == {name: set(vars(module)) for name, module in network.named_modules()}
    assert torch.equal(network.head.weight.grad, torch.ones_like(network.head.weight))
    assert list(network.block1._forward_hooks) == [handle.id]
    assert not any(module._forward_hooks for module in network.modules() if module is not network.block1)


def test_random_states_are_left_alone():
    network, images = build(ResidualNet)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    snnconvert.convert(network, images, progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_global_settings_are_left_alone():
    network, images = build(Plain)
    assert torch.is_grad_enabled()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    snnconvert.convert(network, images, progress=False)
    assert torch.is_grad_enabled()
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)


def test_the_images_are_left_as_they_were():
    network, images = build(Plain)
    before = images.clone()
    snnconvert.convert(network, images, progress=False)
    assert torch.equal(images, before)


def test_training_goes_on_without_changing_the_result(residual):
    network, images, _ = residual
    mine = copy.deepcopy(network)
    snn = snnconvert.convert(mine, images, progress=False)
    before = run(snn, images)
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.zero_()
    assert torch.equal(run(snn, images), before)


def test_a_model_in_training_mode_gives_the_same_result(residual):
    network, images, snn = residual
    assert_same(snn, snnconvert.convert(copy.deepcopy(network).train(), images, progress=False), images)


def test_it_runs_the_same_without_gradients(residual):
    network, images, snn = residual
    with torch.inference_mode():
        again = snnconvert.convert(network, images, progress=False)
    assert torch.equal(run(again, images), run(snn, images))
    assert not snn(images).requires_grad


# Calibration data in any form and order


ORDERS = {"order": st.permutations(range(32)), "sizes": st.lists(st.integers(1, 32), min_size=1, max_size=4)}


@settings(max_examples=2, deadline=None)
@given(**ORDERS)
def test_order_and_batches_of_the_loader_change_nothing(residual, order, sizes):
    assert_order_changes_nothing(residual, order, sizes)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(**ORDERS)
def test_more_orders_and_batches_of_the_loader_change_nothing(residual, order, sizes):
    assert_order_changes_nothing(residual, order, sizes)


def assert_order_changes_nothing(residual, order, sizes):
    network, images, snn = residual
    shuffled, batches, start = images[list(order)], [], 0
    while start < len(images):
        size = sizes[len(batches) % len(sizes)]
        batches.append(shuffled[start : start + size])
        start += size
    assert_same(snn, snnconvert.convert(network, batches, progress=False), images)


LABELS = torch.zeros(8, dtype=torch.int64)
LOADERS = {
    "tensor": lambda x: x,
    "list": lambda x: list(x.split(8)),
    "tuple": lambda x: x.split(8),
    "generator": lambda x: (batch for batch in x.split(8)),
    "iterator": lambda x: iter(x.split(8)),
    "pairs": lambda x: [(batch, LABELS) for batch in x.split(8)],
    "lists": lambda x: [[batch, LABELS] for batch in x.split(8)],
    "singles": lambda x: [(batch,) for batch in x.split(8)],
    "dicts": lambda x: ({"pixel_values": batch, "labels": LABELS} for batch in x.split(8)),
    "data loader": lambda x: DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=5, shuffle=True),
}


@pytest.mark.parametrize(
    "form",
    mostly_slow(LOADERS.values(), keep=[LOADERS[name] for name in ("list", "pairs", "dicts")]),
    ids=LOADERS.keys(),
)
def test_loaders_of_every_form(residual, form):
    network, images, snn = residual
    assert_same(snn, snnconvert.convert(network, form(images), progress=False), images)


def test_a_transform_picks_the_images(residual):
    network, images, snn = residual
    loader = ({"deep": [batch.numpy()]} for batch in images.split(8))
    again = snnconvert.convert(
        network, loader, transform=lambda item: torch.from_numpy(item["deep"][0]), progress=False
    )
    assert_same(snn, again, images)


def test_a_generator_is_read_once_and_to_its_end(residual):
    network, images, _ = residual
    read = []

    def loader():
        for index, batch in enumerate(images.split(8)):
            read.append(index)
            yield batch

    snn = snnconvert.convert(network, loader(), progress=False)
    assert read == [0, 1, 2, 3]
    assert snn.report.calibration_images == 32


@pytest.mark.parametrize("loader", [[], (), iter([]), torch.zeros(0, *SHAPE)], ids=type)
def test_an_empty_loader_is_refused(residual, loader):
    with pytest.raises(InputError):
        snnconvert.convert(residual[0], loader, progress=False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("batch", [0, 2])
def test_images_that_are_not_finite_are_refused(residual, value, batch):
    images = residual[1].clone()
    images[8 * batch + 3, 1, 5, 5] = value
    with pytest.raises(InputError, match=f"batch {batch}"):
        snnconvert.convert(residual[0], images.split(8), progress=False)


BAD_BATCHES = {
    "text": ["hello"],
    "None": [None],
    "empty pair": [()],
    "unknown keys": [{"labels": torch.zeros(3)}],
    "one number": [torch.tensor(3.0)],
    "empty batch": [torch.zeros(0, *SHAPE)],
    "two sizes": [torch.zeros(2, *SHAPE), torch.zeros(2, 3, 16, 16)],
    "complex": [torch.zeros(2, *SHAPE, dtype=torch.complex64)],
}


@pytest.mark.parametrize("loader", BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_batches_that_are_none_are_refused_in_one_line(residual, loader):
    with pytest.raises(InputError) as caught:
        snnconvert.convert(residual[0], loader, progress=False)
    assert "\n" not in str(caught.value)


def test_images_of_the_wrong_shape_are_refused(residual):
    with pytest.raises(ConversionError, match="ResidualNet"):
        snnconvert.convert(residual[0], torch.zeros(4, 5, 12, 12), progress=False)


def test_one_image_is_enough(residual):
    network, images, _ = residual
    snn = snnconvert.convert(network, images[:1], progress=False)
    assert run(snn, images).isfinite().all()
    assert snn.report.calibration_images == 1


def test_constant_images_are_enough(residual):
    network, images, _ = residual
    snn = snnconvert.convert(network, torch.zeros(4, *SHAPE), progress=False)
    assert run(snn, images).isfinite().all()


# Settings


def test_all_layers_analog_is_refused(residual):
    config = snnconvert.ConversionConfig(overrides={".*": {"analog": True}})
    with pytest.raises(ConversionError, match="nothing to convert"):
        snnconvert.convert(residual[0], residual[1], config, progress=False)


def test_an_override_that_matches_nothing_is_refused(residual):
    config = snnconvert.ConversionConfig(overrides={"block1.conv3": {"bits": 1}})
    with pytest.raises(ConfigurationError, match=r"block1\.conv3"):
        snnconvert.convert(residual[0], residual[1], config, progress=False)


CONFIGS = {
    "default": None,
    "narrow": snnconvert.ConversionConfig(bits=1, T=3, weight_bits=4),
    "overrides": snnconvert.ConversionConfig(
        overrides={r"block2\..*": {"weight_bits": 3}, "block1.conv2": {"bits": 1, "T": 5}}
    ),
    "analog": snnconvert.ConversionConfig(overrides={"block1.conv1": {"analog": True}}),
}


@pytest.mark.parametrize("config", mostly_slow(CONFIGS.values(), keep=[CONFIGS["narrow"]]), ids=CONFIGS.keys())
def test_the_plan_is_kept(residual, config):
    network, images, _ = residual
    plan = snnconvert.plan(network, images[:2], config)
    snn = snnconvert.convert(network, images, config, progress=False)
    assert plan == snn.plan
    synapses = dict(snn.synapses())
    assert list(synapses) == [item.layer for item in plan.synapses]
    for item in plan.synapses:
        synapse = synapses[item.layer]
        assert synapse.weight_bits == item.weight_bits
        assert int(synapse.weight.abs().max()) <= 2 ** (item.weight_bits - 1) - 1
        low, high = synapse.word_range
        assert high - low == 2 ** (item.bits * item.T) - 1
    assert len(list(snn.neurons())) == len(plan.sites)


def test_the_plan_needs_one_image_and_changes_nothing(residual):
    network, images, _ = residual
    before = state_of(network)
    assert snnconvert.plan(network, images[:1]) == snnconvert.plan(network, images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# Outputs


@pytest.mark.parametrize("dtype", mostly_slow([torch.float16, torch.bfloat16, torch.float64], keep=[torch.float16]))
def test_the_type_of_the_model_is_the_type_of_the_output(residual, dtype):
    network, images, _ = residual
    typed = copy.deepcopy(network).to(dtype)
    snn = snnconvert.convert(typed, images.to(dtype), progress=False)
    output = run(snn, images.to(dtype))
    assert output.dtype == dtype
    assert run(snn, images).dtype == dtype
    assert next(typed.parameters()).dtype == dtype
    reference = run(copy.deepcopy(typed).float(), images.to(dtype).float())
    assert sqnr(reference, output) > 20


def sqnr(reference, output):
    reference, output = reference.double(), output.double()
    return 10 * math.log10(float(reference.square().sum() / (reference - output).square().sum()))


@pytest.mark.parametrize("bits", mostly_slow([8, 4, 2, 1], keep=[8]))
def test_words_of_eight_bits_follow_the_network(converted, bits):
    network, images, _ = converted
    config = snnconvert.ConversionConfig(bits=bits, T=8 // bits)
    snn = snnconvert.convert(network, images, config, progress=False)
    with torch.random.fork_rng():
        torch.manual_seed(12)
        unseen = torch.randn(64, *SHAPE)
    assert sqnr(run(network, unseen), run(snn, unseen)) > 25


@pytest.mark.slow
def test_wider_words_follow_more_closely(residual):
    network, images, _ = residual
    quality = []
    for T in (2, 4, 6, 8):
        config = snnconvert.ConversionConfig(bits=1, T=T)
        snn = snnconvert.convert(network, images, config, progress=False)
        quality.append(sqnr(run(network, images), run(snn, images)))
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 15


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_batches_change_no_bit_of_the_output(converted, sizes):
    _, images, snn = converted
    whole, start, index = run(snn, images), 0, 0
    while start < len(images):
        size = sizes[index % len(sizes)]
        assert torch.equal(run(snn, images[start : start + size]), whole[start : start + size])
        start, index = start + size, index + 1


def test_the_memory_layout_changes_no_bit_of_the_output(converted):
    _, images, snn = converted
    assert torch.equal(run(snn, images.to(memory_format=torch.channels_last)), run(snn, images))


def test_the_number_of_threads_changes_no_bit_of_the_output(converted):
    _, images, snn = converted
    whole, threads = run(snn, images), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(run(snn, images), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(2, 3, 12, 13), (2, 1, 12, 12), (3, 12, 12), (2, 3, 12), (12,), ()])
def test_inputs_of_another_shape_are_refused(residual, shape):
    with pytest.raises(InputError, match="expected"):
        residual[2](torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_inputs_that_are_no_reals_are_refused(residual, dtype):
    with pytest.raises(InputError, match="floating"):
        residual[2](torch.zeros(2, *SHAPE, dtype=dtype))


def test_no_images_in_no_answers_out(residual):
    assert run(residual[2], torch.zeros(0, *SHAPE)).shape == (0, 10)


@pytest.mark.parametrize("progress", [False, True])
def test_nothing_is_printed_where_there_is_no_terminal(capfd, recwarn, progress):
    network, images = build(Plain)
    snnconvert.convert(network, images.split(4), progress=progress)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


# An independent simulator of the spiking graph in int64


def is_short(gain):
    """Whether a float32 has at most 8 mantissa bits: then its products with counts can be exact."""
    return float(gain) == 0 or Fraction(float(gain)).numerator.bit_length() <= 8


def half_even(numerator, exponent):
    """numerator / 2^exponent to the nearest integer, ties to even, in integers."""
    if exponent <= 0:
        return numerator << -exponent
    low, rest = numerator >> exponent, numerator & ((1 << exponent) - 1)
    half = 1 << (exponent - 1)
    return low + ((rest > half) | ((rest == half) & (low & 1 == 1)))


def fire(potential, neuron):
    """Words of integer potentials: exactly where the gain is short, else with one float32 rounding."""
    assert neuron.bias is None
    low, high = neuron.code.minimum, neuron.code.maximum
    gains = np.broadcast_to(neuron.gain.numpy(), (1, *potential.shape[1:]))
    if potential.dtype == np.int64 and all(is_short(gain) for gain in np.unique(gains)):
        words = np.zeros_like(potential)
        for gain in np.unique(gains):
            value = Fraction(float(gain))
            exponent = value.denominator.bit_length() - 1
            fired = half_even(potential * value.numerator, exponent)
            words = np.where(np.broadcast_to(gains == gain, potential.shape), fired, words)
        return np.clip(words, low, high), True
    product = (potential.astype(np.float64) * gains.astype(np.float64)).astype(np.float32)
    return np.clip(np.rint(product), low, high).astype(np.int64), False


def convolve(words, synapse):
    """I = (W·z + b)·m with explicit sums in int64."""
    geometry, weight = synapse.geometry, synapse.weight.numpy().astype(np.int64)
    bias, multiplier = (t.numpy().astype(np.int64) for t in (synapse.bias, synapse.multiplier))
    if geometry is None:
        return (np.einsum("...i,oi->...o", words, weight) + bias) * multiplier
    (top, left), (down, right), (dy, dx) = geometry.padding, geometry.stride, geometry.dilation
    padded = np.pad(words, ((0, 0), (0, 0), (top, top), (left, left)))
    outputs, _, high, wide = weight.shape
    rows = (padded.shape[2] - dy * (high - 1) - 1) // down + 1
    columns = (padded.shape[3] - dx * (wide - 1) - 1) // right + 1
    each_in, each_out = words.shape[1] // geometry.groups, outputs // geometry.groups
    current = np.zeros((len(words), outputs, rows, columns), np.int64)
    for y in range(high):
        for x in range(wide):
            seen = padded[:, :, y * dy :: down, x * dx :: right][:, :, :rows, :columns]
            for group in range(geometry.groups):
                inside = slice(group * each_in, (group + 1) * each_in)
                outside = slice(group * each_out, (group + 1) * each_out)
                current[:, outside] += np.einsum("nihw,oi->nohw", seen[:, inside], weight[outside, :, y, x])
    return (current + bias.reshape(-1, 1, 1)) * multiplier.reshape(-1, 1, 1)


def windows(values, kernel, stride, padding, fill):
    (high, wide), (down, right) = kernel, stride
    padded = np.pad(values, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), axis=(2, 3))
    return view[:, :, ::down, ::right]


def pool(counts, module):
    multiplier = module.multiplier.numpy().astype(np.int64)
    geometry = module.geometry
    if geometry.dims:
        return counts.sum(tuple(geometry.dims), keepdims=geometry.keepdim) * multiplier
    seen = windows(counts, pair(geometry.kernel), pair(geometry.stride), pair(geometry.padding), 0)
    return seen.sum((-1, -2)) * multiplier


def pair(value):
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def call(node, values):
    operands = [values[arg.name] for arg in node.all_input_nodes]
    if node.target is aten.add.Tensor:
        return operands[0] + operands[1]
    if node.target is aten.max_pool2d.default:
        kernel = pair(node.args[1])
        stride = pair(node.args[2]) if len(node.args) > 2 and node.args[2] else kernel
        padding = pair(node.args[3]) if len(node.args) > 3 else (0, 0)
        return windows(operands[0], kernel, stride, padding, np.iinfo(np.int64).min).max((-1, -2))
    if node.target is aten.cat.default:
        return np.concatenate(operands, node.args[1])
    if node.target in (aten.view.default, aten.reshape.default, aten.flatten.using_ints):
        return operands[0].reshape(len(operands[0]), -1)
    raise NotImplementedError(str(node.target))


def simulate(snn, images):
    """Every node's value in integers, by name, and how many neurons were computed exactly."""
    values, exact = {}, 0
    for node in snn.network.graph.nodes:
        if node.op == "placeholder":
            values[node.name] = images.numpy()
        elif node.op == "call_module":
            module, source = snn.network.get_submodule(node.target), values[node.args[0].name]
            if isinstance(module, SpikingNeuron):
                values[node.name], is_exact = fire(source, module)
                exact += is_exact
            elif isinstance(module, Synapse):
                values[node.name] = convolve(source, module)
            elif isinstance(module, IntegerScale):
                values[node.name] = source * module.multiplier.numpy().astype(np.int64)
            elif isinstance(module, SumPool):
                values[node.name] = pool(source, module)
            else:
                assert isinstance(module, ToReal)
                values[node.name] = source * module.unit.numpy()
        elif node.op == "call_function":
            if any(isinstance(values.get(arg.name), np.ndarray) for arg in node.all_input_nodes[:1]):
                values[node.name] = call(node, values) if node.target is not aten.sym_size.int else None
        else:
            assert node.op == "output"
            values["output"] = values[node.all_input_nodes[0].name]
    return values, exact


class Recorder(fx.Interpreter):
    def run(self, *args):
        self.values = {}
        return super().run(*args)

    def run_node(self, n):
        value = super().run_node(n)
        self.values[n.name] = value
        return value


def reads_integers_on_the_grid(node, snn):
    """Neurons behind synapses and sums; the input's and those behind pools have gains of their own."""
    if node.op != "call_module" or not isinstance(snn.network.get_submodule(node.target), SpikingNeuron):
        return False
    (source,) = node.all_input_nodes
    if source.op != "call_module":
        return source.op == "call_function"
    return isinstance(snn.network.get_submodule(source.target), Synapse)


SETTINGS = {"8/2/4": (8, 2, 4), "4/1/4": (4, 1, 4), "8/1/8": (8, 1, 8), "3/2/1": (3, 2, 1)}


@pytest.mark.parametrize("setting", mostly_slow(SETTINGS.values(), keep=[(3, 2, 1)], as_one=True), ids=SETTINGS.keys())
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_packed_engine_computes_the_integers_of_a_simulator(kind, setting):
    network, images = build(kind, 16)
    weight_bits, bits, T = setting
    config = snnconvert.ConversionConfig(bits=bits, T=T, weight_bits=weight_bits)
    snn = snnconvert.convert(network, images, config, progress=False)
    expected, exact = simulate(snn, images[:5])
    recorder = Recorder(snn.network)
    with torch.no_grad():
        output = recorder.run(images[:5])
    compared = 0
    for node in snn.network.graph.nodes:
        value = recorder.values[node.name]
        if isinstance(value, torch.Tensor) and node.op in ("call_module", "call_function"):
            found = value.numpy()
            if expected[node.name].dtype == np.int64:
                assert np.array_equal(found, expected[node.name]), node.name
                compared += 1
            else:
                np.testing.assert_allclose(found, expected[node.name], rtol=2e-7)
    assert compared >= 2 * len(snn.plan.synapses)
    assert exact == sum(reads_integers_on_the_grid(node, snn) for node in snn.network.graph.nodes)
    np.testing.assert_allclose(output.numpy(), expected["output"], rtol=2e-7)
