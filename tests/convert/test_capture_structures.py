import pytest
import torch
from slow_cases import mostly_slow
from structured_networks import RESULTS, FeatureHead, Functional, Returns, TwoInputs
from torch import nn

import snnconvert
from snnconvert.convert.capture import capture_call
from snnconvert.convert.structure import Record, flatten
from snnconvert.errors import ConversionError, InputError
from snnconvert.inputs import Inputs

FINE = snnconvert.ConversionConfig(bits=4, T=2, weight_bits=8)


def two_images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.rand(count, channels, 8, 8, generator=generator) for channels in (3, 4))
    return left, right, torch.rand(count, 8, 8, generator=generator) > 0.3


def features(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(count, 4, size, size, generator=generator) for size in (8, 4)]


def decibels(ann, snn):
    """SQNR over all floating tensors of both outputs."""
    pairs = [
        (a.detach().double(), b.detach().double())
        for a, b in zip(flatten(ann, "ANN")[0], flatten(snn, "SNN")[0], strict=True)
        if a.is_floating_point()
    ]
    signal = sum(float(a.square().sum()) for a, _ in pairs)
    noise = sum(float((a - b).square().sum()) for a, b in pairs)
    return 10 * torch.log10(torch.tensor(signal / max(noise, 1e-30)))


def built(kind, *args):
    torch.manual_seed(0)
    return kind(*args).eval()


def assert_equal_at_three_batch_sizes(net, call):
    """The graph is the model at three batch sizes."""
    captured = capture_call(net, call(2))
    for size in (1, 3, 7):
        inputs = call(size)
        with torch.no_grad():
            expected, _ = flatten(net(*inputs.args, **inputs.kwargs), "it")
            actual = captured.graph(*captured.signature.flatten(inputs.args, inputs.kwargs))
        for got, wanted in zip(actual if isinstance(actual, tuple) else [actual], expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda size: Inputs(*two_images(size)),
        lambda size: Inputs(
            **dict(zip(("right", "mask", "left"), two_images(size)[1:] + two_images(size)[:1], strict=True))
        ),
        lambda size: Inputs(*two_images(size)[:2], scale=0.5),
    ],
    ids=["positions", "names in another order", "constant"],
)
def test_several_inputs(call):
    assert_equal_at_three_batch_sizes(built(TwoInputs), call)


def test_lists_of_tensors():
    assert_equal_at_three_batch_sizes(built(FeatureHead), lambda size: Inputs(features(size)))


@pytest.mark.parametrize("name", mostly_slow(RESULTS, keep=["tuple", "integers", "nested", "namedtuple", "dict"]))
def test_every_result(name):
    assert_equal_at_three_batch_sizes(built(Returns, RESULTS[name]), lambda size: Inputs(two_images(size)[0]))


def test_functional_code():
    net = built(Functional)
    assert_equal_at_three_batch_sizes(net, lambda size: Inputs(features(size)[0]))
    images = features(32)[0]
    snn = snnconvert.convert(net, images, FINE, progress=False)
    assert decibels(net(images), snn(images)) > 25
    assert len(list(snn.synapses())) == 8  # one a use: conv twice, its tied twin, three blocks, both ends


def test_names_of_inputs_and_their_batch():
    signature = capture_call(built(TwoInputs), Inputs(*two_images(2)[:2], mask=two_images(2)[2])).signature
    assert [(spec.name, spec.shape, spec.dtype, spec.batched) for spec in signature.tensors] == [
        ("left", (3, 8, 8), "float32", True),
        ("right", (4, 8, 8), "float32", True),
        ("mask", (8, 8), "bool", True),
    ]
    signature = capture_call(built(FeatureHead), Inputs(features(2))).signature
    assert [spec.name for spec in signature.tensors] == ["features.0", "features.1"]


class WithTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x, table, index):
        return torch.relu(self.fc(x)) @ table + table[index]


def test_tensors_without_a_batch_and_indices():
    net, table = built(WithTable), torch.randn(4, 3)
    x, index = torch.randn(20, 6), torch.arange(20) % 4
    snn = snnconvert.convert(net, [Inputs(x[:10], table, index[:10]), Inputs(x[10:], table, index[10:])], FINE)
    assert [spec.batched for spec in snn.signature.tensors] == [True, False, True]
    assert decibels(net(x, table, index), snn(x, table, index=index)) > 30
    # the table is an input like the others
    assert not torch.equal(snn(x, table, index), snn(x, table * 2, index))
    with pytest.raises(InputError, match="table has no batch dimension"):
        snnconvert.convert(net, [Inputs(x, table, index), Inputs(x, table + 1, index)], FINE)
    with pytest.raises(InputError, match=r"index: expected int64 input \[N\], got torch.float32"):
        snn(x, table, index.float())


@pytest.fixture(scope="module")
def pair():
    net = built(TwoInputs)
    batches = [Inputs(*(part[first : first + 16] for part in two_images(48))) for first in (0, 16, 32)]
    return net, snnconvert.convert(net, batches, FINE, progress=False)


def test_the_spiking_network_is_called_like_the_ann(pair):
    net, snn = pair
    left, right, mask = two_images(5, 1)
    expected = net(left, right, mask)
    answer = snn(left, right, mask)
    assert list(answer) == list(expected)
    assert answer["dense"][1:] == [None, 3]
    assert torch.equal(answer["mask"], mask)
    assert decibels(expected, answer) > 30
    for other in (snn(left, right=right, mask=mask), snn(mask=mask, right=right, left=left)):
        assert torch.equal(other["logits"], answer["logits"])


def test_fidelity_of_several_outputs(pair):
    _, snn = pair
    assert snn.report.fidelity.logit_sqnr_db > 30
    assert snn.report.fidelity.top1_agreement > 0.9  # of the output called "logits"
    net = built(Returns, RESULTS["ordered"])
    fidelity = snnconvert.convert(net, two_images(20)[0], FINE, progress=False).report.fidelity
    assert fidelity.top1_agreement is None
    assert fidelity.logit_sqnr_db > 30


@pytest.mark.parametrize("schedule", ["layer", "tick"])
def test_in_time_it_gives_the_same(pair, schedule):
    _, snn = pair
    left, right, mask = two_images(5, 2)
    answer = snn(left, right, mask)
    run = snn.simulate(left, right, mask=mask, schedule=schedule)
    for key in ("logits", "mask"):
        assert torch.equal(run.output[key], answer[key])
        assert torch.equal(run.readout[key][-1], answer[key])
    assert torch.equal(run.output["dense"][0], answer["dense"][0])
    assert len(run.readout["logits"]) == len(run.readout_ticks)


@pytest.mark.parametrize("schedule", mostly_slow(["layer", "tick"], keep=["layer"]))
def test_rate_codes_in_time(schedule):
    net = built(Returns, RESULTS["nested"])
    images = two_images(24)[0]
    config = snnconvert.ConversionConfig(neuron="if", bits=1, T=32)
    snn = snnconvert.convert(net, images, config, progress=False)
    one, other = (snn.simulate(images[:4], schedule=item) for item in (schedule, "layer"))
    assert torch.equal(one.readout["a"][0], other.readout["a"][0])
    assert torch.equal(one.output["a"][0], snn(images[:4])["a"][0])
    assert decibels(net(images), snn(images)) > 10


@pytest.mark.parametrize("name", mostly_slow(RESULTS, keep=["one in a tuple", "nested", "ordered", "dataclass"]))
def test_saved_networks_return_the_same(name, tmp_path):
    net = built(Returns, RESULTS[name])
    images = two_images(20)[0]
    snn = snnconvert.convert(net, images, FINE, progress=False)
    answer = snn(images)
    assert type(answer) is type(net(images))
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")(images)
    if name in ("namedtuple", "dataclass"):
        assert isinstance(loaded, Record)
        assert torch.equal(loaded.logits, answer.logits)
        assert torch.equal(loaded[0], answer.logits)
        return
    assert type(loaded) is type(answer)
    for one, other in zip(flatten(loaded, "it")[0], flatten(answer, "it")[0], strict=True):
        assert torch.equal(one, other)


def test_saved_networks_take_several_inputs(pair, tmp_path):
    _, snn = pair
    snn.save(tmp_path / "net")
    loaded = snnconvert.load(tmp_path / "net")
    left, right, mask = two_images(3, 3)
    assert loaded.signature == snn.signature
    assert torch.equal(loaded(left, right, mask=mask)["logits"], snn(left, right, mask)["logits"])


def test_lists_stay_lists():
    net = built(FeatureHead)
    snn = snnconvert.convert(net, [(features(16), 0), (features(16, 1), 0)], FINE, progress=False)
    answer = snn(features(3, 2))
    assert isinstance(answer, list)
    assert decibels(net(features(3, 2)), answer) > 30
    assert len([layer for layer, _ in snn.synapses()]) == 4
    assert snn(tuple(features(3, 2)))[0].shape == answer[0].shape


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, ["left=tensor", "got ()"]),
        ((torch.zeros(2, 3, 8, 8),), {}, ["right=tensor"]),
        ((*two_images(2), 1.0, 3), {}, ["5 positional arguments"]),
        (two_images(2), {"left": two_images(2)[0]}, ["left", "given by position and by name"]),
        (two_images(2), {"colour": 3}, ["colour=3"]),
        ((*two_images(2)[:2], None), {}, ["mask=None"]),
        ((two_images(2)[1], *two_images(2)[1:]), {}, ["left", "[2, 4, 8, 8]", "[N, 3, 8, 8]"]),
        ((two_images(3)[0], *two_images(2)[1:]), {}, ["batch sizes differ: [2, 3]"]),
        ((*two_images(2)[:2], two_images(2)[2].float()), {}, ["mask", "bool"]),
        ((*two_images(2)[:2], {1}), {}, ["set"]),
    ],
)
def test_calls_that_do_not_fit_are_named(pair, args, kwargs, words):
    with pytest.raises(InputError) as error:
        pair[1](*args, **kwargs)
    for word in words:
        assert word in str(error.value)


def test_event_frames_and_exports_know_one_input(pair, tmp_path):
    with pytest.raises(InputError, match="left, right, mask"):
        next(pair[1].stream([], 3))
    from snnconvert.export.spike_streams import export_spike_streams

    with pytest.raises(ConversionError, match="left, right, mask"):
        export_spike_streams(pair[1], two_images(2)[0], tmp_path / "x.npz")


class Numbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x), x.shape[0]


def test_numbers_must_not_depend_on_the_batch():
    with pytest.raises(ConversionError, match="must not depend on the batch"):
        capture_call(built(Numbers), torch.randn(2, 4))


def test_dicts_of_arguments():
    net = built(TwoInputs)
    left, right, mask = two_images(32)
    items = [{"right": right, "left": left, "mask": mask, "labels": torch.zeros(32), "id": ["a"] * 32}]
    snn = snnconvert.convert(net, items, FINE, progress=False)
    assert [spec.name for spec in snn.signature.tensors] == ["left", "right", "mask"]
    assert decibels(net(left, right, mask), snn(left, right, mask)) > 30


def test_a_transform_may_return_inputs_or_dicts():
    net = built(TwoInputs)
    left, right, mask = two_images(16)
    for transform in (lambda item: Inputs(*item), lambda item: dict(zip(("left", "right", "mask"), item, strict=True))):
        snn = snnconvert.convert(net, [(left, right, mask)], FINE, transform=transform, progress=False)
        assert len(snn.signature.tensors) == 3


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, ids):
        return self.fc(self.embedding(ids))


@pytest.mark.parametrize("form", mostly_slow([Inputs, lambda ids: Inputs(ids=ids), lambda ids: {"ids": ids}], keep=1))
def test_token_ids_are_looked_up(form):
    net, ids = built(Tokens), torch.arange(63).reshape(21, 3) % 7
    snn = snnconvert.convert(net, [form(part) for part in ids.split(8)], FINE, progress=False)
    assert snn.report.coverage.macs_on_spikes == 1
    assert decibels(net(ids), snn(ids)) > 30
    assert torch.equal(snn(ids), snn(ids=ids))
    with pytest.raises(InputError, match="int64"):
        snn(ids.float())


def test_empty_batches(pair):
    answer = pair[1](*two_images(0))
    assert answer["logits"].shape == (0, 5)
    assert answer["dense"][0].shape == (0, 2, 8, 8)
