import copy

import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.synapse import Synapse


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.bn = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv1(x)))
        x = torch.relu(x + self.conv2(x))
        return self.head(self.dropout(x.mean((2, 3))))


@pytest.fixture(scope="module")
def converted():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network, images = Net().train(), torch.randn(20, 3, 8, 8)
        for _ in range(20):
            network(images)
    return snnconvert.convert(network.eval(), images, progress=False), images


@pytest.fixture
def snn(converted):
    return copy.deepcopy(converted[0])


@pytest.fixture
def images(converted):
    return converted[1]


def tensors(module):
    return {name: (value.dtype, value.clone()) for name, value in module.named_buffers()}


def assert_same_tensors(one, two):
    assert one.keys() == two.keys()
    for name, (dtype, value) in one.items():
        assert dtype == two[name][0], name
        assert torch.equal(value, two[name][1]), name


CASTS = {
    "half": (lambda m: m.half(), torch.float16),
    "bfloat16": (lambda m: m.bfloat16(), torch.bfloat16),
    "double": (lambda m: m.double(), torch.float64),
    "float": (lambda m: m.float(), torch.float32),
    "to(float16)": (lambda m: m.to(torch.float16), torch.float16),
    "to(device, float64)": (lambda m: m.to("cpu", torch.float64), torch.float64),
    "to(tensor)": (lambda m: m.to(torch.zeros(1, dtype=torch.bfloat16)), torch.bfloat16),
    "type": (lambda m: m.type(torch.float64), torch.float64),
    "double then float": (lambda m: m.double().float(), torch.float32),
    "half then double": (lambda m: m.half().double(), torch.float64),
    "half then cpu": (lambda m: m.half().cpu(), torch.float16),
    "half then to(cpu)": (lambda m: m.half().to("cpu"), torch.float16),
    "cpu": (lambda m: m.cpu(), torch.float32),
}


@pytest.mark.parametrize(
    ("cast", "dtype"),
    [pytest.param(*case, id=name) for name, case in CASTS.items()],
)
def test_a_cast_changes_the_type_of_the_output_alone(snn, images, cast, dtype):
    before, expected = tensors(snn), snn(images)
    assert cast(snn) is snn
    assert_same_tensors(tensors(snn), before)
    output = snn(images)
    assert output.dtype == dtype
    assert torch.equal(output, expected.to(dtype))


def test_a_cast_inside_a_larger_module_spares_the_integers(snn, images):
    before, expected = tensors(snn), snn(images)
    whole = nn.Sequential(snn, nn.Linear(5, 2)).double()
    assert_same_tensors(tensors(snn), before)
    assert torch.equal(whole[0](images), expected.double())
    assert whole(images).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_the_input_does_not_matter(snn, images, dtype):
    typed = images.to(dtype)
    output = snn(typed)
    assert output.dtype == torch.float32
    assert torch.equal(output, snn(typed.float()))


def test_the_input_is_left_alone(snn, images):
    before = images.clone()
    snn(images)
    assert torch.equal(images, before)


def test_a_deep_copy_computes_the_same_and_stands_alone(converted):
    original, images = converted
    expected = original(images)
    duplicate = copy.deepcopy(original)
    assert torch.equal(duplicate(images), expected)
    assert duplicate.report == original.report
    assert duplicate.plan == original.plan
    assert [name for name, _ in duplicate.synapses()] == [name for name, _ in original.synapses()]
    pointers = {value.data_ptr() for value in original.buffers() if value.numel()}
    assert not pointers & {value.data_ptr() for value in duplicate.buffers() if value.numel()}
    for buffer in duplicate.buffers():
        buffer.zero_()
    duplicate.half()
    assert torch.equal(original(images), expected)
    assert original.output_dtype == torch.float32


def test_a_state_holds_integers_and_scales_and_nothing_derived(snn):
    state = snn.state_dict()
    for name, synapse in snn.synapses():
        prefix = f"network.synapse_{name}"
        assert state[f"{prefix}.weight"].dtype == torch.int8
        assert state[f"{prefix}.bias"].dtype == torch.int32
        assert torch.equal(state[f"{prefix}.weight"], synapse.weight)
    assert not [name for name in state if "._" in name]


def test_a_state_restores_the_network(snn, images):
    """A copy with other integers takes over the whole behaviour of the state it is given."""
    expected, state = snn(images), {name: value.clone() for name, value in snn.state_dict().items()}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        other_images = torch.randn(20, 3, 8, 8)
        other = snnconvert.convert(Net().eval(), other_images, progress=False)
    assert not torch.allclose(other(images), expected)
    other.load_state_dict(state)
    assert torch.equal(other(images), expected)


def test_a_state_with_something_missing_is_refused(snn):
    state = snn.state_dict()
    del state["network.synapse_conv2.weight"]
    with pytest.raises(RuntimeError, match=r"synapse_conv2\.weight"):
        snn.load_state_dict(state)


def test_it_has_no_parameters_to_train(snn, images):
    assert list(snn.parameters()) == []
    assert not snn(images).requires_grad


def test_it_prints_its_neurons_and_synapses(snn):
    text = repr(snn)
    assert "SpikingModel" in text
    for name, synapse in snn.synapses():
        assert f"synapse_{name}" in text
        assert "x".join(map(str, synapse.weight.shape)) in text
    for _, neuron in snn.neurons():
        assert f"bits={neuron.code.bits}, T={neuron.code.T}" in text
        assert f"threshold={neuron.threshold:.4g}" in text


def test_training_mode_changes_nothing(snn, images):
    assert not snn.training
    expected = snn(images)
    assert snn.train() is snn
    assert snn.training
    assert torch.equal(snn(images), expected)
    assert torch.equal(snn(images), expected)
    assert snn.eval() is snn
    assert not any(module.training for module in snn.modules())
    assert torch.equal(snn(images), expected)


def test_layers_are_named_as_in_the_model(snn):
    synapses, neurons = list(snn.synapses()), list(snn.neurons())
    assert [name for name, _ in synapses] == ["conv1", "conv2", "head"]
    assert all(isinstance(module, Synapse) for _, module in synapses)
    assert all(isinstance(module, SpikingNeuron) for _, module in neurons)
    assert len(neurons) == len(snn.plan.sites)


def test_input_shape_and_settings_are_kept(snn):
    assert snn.input_shape == (3, 8, 8)
    assert snn.config == snnconvert.ConversionConfig()
    assert snn.output_dtype == torch.float32
