"""Saved networks are as small as their bits, and what their packed weights say is checked."""

import json
import math

import pytest
import torch
from artifact_networks import FILES, TENSORS, cases, contents, edit_json, repair_checksums, settled
from safetensors.torch import load_file, save_file
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.errors import ArtifactError

HIDDEN = ("conv2", "conv3")


class Wide(nn.Module):
    """Most weights are in neither the first nor the last layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(192)
        self.conv3 = nn.Conv2d(192, 192, 3, padding=1)
        self.head = nn.Linear(192, 10)

    def forward(self, x):
        x = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        return self.head(torch.relu(self.conv3(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def wide():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network, images = Wide(), torch.randn(12, 3, 8, 8)
        network.conv3.weight.data.mul_(torch.logspace(-1.5, 0, 192).view(-1, 1, 1, 1))
        return settled(network, images, passes=10), images


def saved_at(wide, folder, **settings):
    network, images = wide
    snn = snnconvert.convert(network, images, snnconvert.ConversionConfig(**settings), progress=False)
    snn.save(folder)
    return snn


def assert_same(snn, folder, images):
    """Every buffer with its type, and the output, bit for bit; saved again, the same bytes."""
    loaded = snnconvert.load(folder)
    before, after = snn.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert (value.dtype, value.shape) == (after[key].dtype, after[key].shape)
        assert value.numpy().tobytes() == after[key].numpy().tobytes()
    assert torch.equal(loaded(images), snn(images))
    loaded.save(folder.parent / "again", force=True)
    assert contents(folder.parent / "again") == contents(folder)


def weight_bytes(snn):
    """⌈Σ weights·b_w / 8⌉ of each layer, by the widths the synapses say."""
    return {name: -(-int((synapse.widths * synapse.weight[0].numel()).sum()) // 8) for name, synapse in snn.synapses()}


@pytest.mark.parametrize("bits", mostly_slow(range(1, 9), keep=[1, 3, 8]))
def test_weights_take_the_bits_they_have(wide, bits, tmp_path):
    snn = saved_at(wide, tmp_path / "net", weight_bits=bits)
    stored = load_file(tmp_path / "net" / TENSORS)
    assert {name: stored[f"synapse_{name}.weight"].nbytes for name, _ in snn.synapses()} == weight_bytes(snn)
    assert_same(snn, tmp_path / "net", wide[1])


def test_a_network_of_half_the_bits_has_half_the_size(wide, tmp_path):
    sizes = {}
    for bits in (8, 4, 2):
        saved_at(wide, tmp_path / str(bits), weight_bits=bits)
        sizes[bits] = {name: (tmp_path / str(bits) / name).stat().st_size for name in FILES}
    assert 0.49 < sizes[4][TENSORS] / sizes[8][TENSORS] < 0.53
    assert 0.49 < sizes[2][TENSORS] / sizes[4][TENSORS] < 0.56
    floats = 4 * sum(parameter.numel() for parameter in wide[0].parameters())
    assert sum(sizes[8].values()) < 0.27 * floats
    assert sum(sizes[4].values()) < 0.15 * floats


@pytest.mark.parametrize("granularity", mostly_slow(["group", "channel"], keep=["channel"]))
def test_channels_of_their_own_widths_take_those(wide, tmp_path, granularity):
    snn = saved_at(wide, tmp_path / "net", weight_bits=3, weight_granularity=granularity)
    stored, declared = load_file(tmp_path / "net" / TENSORS), weight_bytes(snn)
    assert len(set(dict(snn.synapses())["conv3"].widths.tolist())) > 2
    for name in HIDDEN:
        held = stored[f"synapse_{name}.weight"].nbytes
        assert declared[name] * 0.9 < held <= declared[name] + 8
    assert_same(snn, tmp_path / "net", wide[1])


def test_dead_channels_of_one_bit_keep_their_zeros(tmp_path, wide):
    network, images = Wide(), wide[1]
    network.load_state_dict(wide[0].state_dict())
    with torch.no_grad():
        network.conv3.weight[5], network.conv3.bias[5] = 0, 0.5
    snn = saved_at((network.eval(), images), tmp_path / "net", weight_bits=1)
    weight = dict(snn.synapses())["conv3"].weight
    assert weight[5].abs().max() == 0
    assert load_file(tmp_path / "net" / TENSORS)["synapse_conv3.weight"].nbytes < weight.numel() / 8 * 1.02
    assert_same(snn, tmp_path / "net", images)


@pytest.fixture(scope="module")
def packed_once(wide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "net"
    saved_at(wide, folder, weight_bits=3, weight_granularity="channel")
    return contents(folder)


@pytest.fixture
def packed(packed_once, tmp_path):
    for name, data in packed_once.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


NAME = "synapse_conv3.weight"
BAD_FORMS = {
    "a width of zero": lambda forms: forms[NAME].update(bits=0),
    "a width of nine": lambda forms: forms[NAME].update(bits=9),
    "another width": lambda forms: forms[NAME].update(bits=4),
    "a width in words": lambda forms: forms[NAME].update(bits="three"),
    "another shape": lambda forms: forms[NAME].update(shape=[192, 192, 3, 4]),
    "fewer channels": lambda forms: forms[NAME].update(shape=[96, 384, 3, 3]),
    "a shape without end": lambda forms: forms[NAME].update(shape=[10**12, 192, 3, 3]),
    "no shape": lambda forms: forms[NAME].pop("shape"),
    "a form of no kind": lambda forms: forms.update({NAME: {}}),
    "a number": lambda forms: forms.update({NAME: 3}),
    "no form": lambda forms: forms.pop(NAME),
}


def refused(folder, name):
    with pytest.raises(ArtifactError, match=name) as caught:
        snnconvert.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", cases(BAD_FORMS))
def test_forms_that_do_not_fit_are_refused(packed, change):
    edit_json(packed, "graph.json", lambda graph: change(graph["tensors"]))
    refused(packed, "weight")


BAD_TENSORS = {
    "cut off": lambda t: t.update({NAME: t[NAME][:-1].clone()}),
    "too long": lambda t: t.update({NAME: torch.cat([t[NAME], t[NAME][:1]])}),
    "missing": lambda t: t.pop(NAME),
    "not bytes": lambda t: t.update({NAME: t[NAME].float()}),
    "two-dimensional": lambda t: t.update({NAME: t[NAME][None]}),
    "without widths": lambda t: t.pop(f"{NAME}.widths"),
    "of fewer widths": lambda t: t.update({f"{NAME}.widths": t[f"{NAME}.widths"][:-1].clone()}),
    "of wider widths": lambda t: t[f"{NAME}.widths"].fill_(0xFF),
}


@pytest.mark.parametrize("change", cases(BAD_TENSORS))
def test_packed_weights_that_do_not_fit_are_refused(packed, change):
    tensors = load_file(packed / TENSORS)
    change(tensors)
    save_file(tensors, packed / TENSORS)
    repair_checksums(packed)
    refused(packed, NAME)


@pytest.mark.parametrize("forms", [None, 3, [], "x"])
def test_forms_that_are_no_object_are_refused(packed, forms):
    edit_json(packed, "graph.json", lambda graph: graph.update(tensors=forms))
    refused(packed, "tensors")


def test_forms_are_what_the_files_say(packed):
    """Every entry is of a tensor in the file; every stored tensor is the graph's, or beside one that has an entry."""
    forms = json.loads((packed / "graph.json").read_text())["tensors"]
    stored = load_file(packed / TENSORS)
    assert forms.keys() <= stored.keys()
    beside = {name for name in stored if name.removesuffix(".indices").removesuffix(".widths") != name}
    assert {name.rpartition(".")[0] for name in beside} <= forms.keys()
    assert stored.keys() - beside <= snnconvert.load(packed).network.state_dict().keys()
    assert math.prod(forms[NAME]["shape"]) == 192 * 192 * 9
