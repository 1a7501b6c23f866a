import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_cases import mostly_slow
from torch import nn

import snnconvert
from snnconvert.errors import InputError
from snnconvert.evaluation import compare, compare_outputs


class Pick(nn.Module):
    """Stands for a network: its answer is written into its input, x[:, which]."""

    def __init__(self, which):
        super().__init__()
        self.which = which

    def forward(self, x):
        return x[:, self.which]


ANN, SNN = Pick(0), Pick(1)
CLASSES = 4


@st.composite
def answers(draw):
    count = draw(st.integers(1, 20))
    values = st.integers(-8, 8)
    logits = draw(st.lists(values, min_size=count * 2 * CLASSES, max_size=count * 2 * CLASSES))
    labels = draw(st.lists(st.integers(-1, CLASSES - 1), min_size=count, max_size=count))
    return torch.tensor(logits, dtype=torch.float32).view(count, 2, CLASSES), torch.tensor(labels)


def batches(images, labels, sizes):
    """Cuts images into batches of the given sizes, again and again."""
    start = index = 0
    while start < len(images):
        size = sizes[index % len(sizes)]
        yield images[start : start + size], None if labels is None else labels[start : start + size]
        start, index = start + size, index + 1


def first_maximum(values):
    return max(range(len(values)), key=lambda i: (values[i], -i))


def brute_force(images, labels):
    counts = {"images": 0, "agreeing": 0, "both": 0, "only_ann": 0, "only_snn": 0, "signal": 0, "noise": 0}
    for (ann, snn), label in zip(images.tolist(), labels.tolist(), strict=True):
        a, s = first_maximum(ann), first_maximum(snn)
        counts["images"] += 1
        counts["agreeing"] += a == s
        counts["both"] += a == label and s == label
        counts["only_ann"] += a == label and s != label
        counts["only_snn"] += s == label and a != label
        counts["signal"] += sum(v * v for v in ann)
        counts["noise"] += sum((v - w) ** 2 for v, w in zip(ann, snn, strict=True))
    return counts


@given(answers(), st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_counts_image_by_image_for_any_batches(case, sizes):
    images, labels = case
    found = compare(ANN, SNN, batches(images, labels, sizes))
    assert vars(found) == brute_force(images, labels)


@given(answers(), st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_without_labels_only_agreement_is_counted(case, sizes):
    images, labels = case
    found = compare(ANN, SNN, batches(images, None, sizes))
    expected = brute_force(images, labels)
    assert found.both == found.only_ann == found.only_snn == 0
    for name in ("images", "agreeing", "signal", "noise"):
        assert getattr(found, name) == expected[name]


@given(answers())
def test_figures_of_the_counts(case):
    images, labels = case
    found = compare(ANN, SNN, [(images, labels)])
    metric, fidelity = found.metric(), found.fidelity("a test")
    right = [(images[:, which].argmax(1) == labels).double().mean().item() for which in (0, 1)]
    assert metric.ann == pytest.approx(right[0])
    assert metric.snn == pytest.approx(right[1])
    assert metric.images == fidelity.images == len(images)
    low, high = metric.difference_ci95
    assert low <= (found.only_snn - found.only_ann) / (len(images) + 2) <= high
    assert fidelity.measured_on == "a test"
    assert fidelity.top1_agreement == pytest.approx(found.agreeing / len(images))
    if found.signal and found.noise:
        assert fidelity.logit_sqnr_db == pytest.approx(10 * math.log10(found.signal / found.noise))
    else:
        assert fidelity.logit_sqnr_db is None


@given(st.integers(1, 6), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 2**32))
def test_agreement_of_dense_outputs_is_a_share_of_positions(count, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(-5, 6, (count, 2, 3, 4, 2), generator=generator).float()
    equal = 0
    for ann, snn in images.tolist():
        for row in range(4):
            for column in range(2):
                pick = [[plane[row][column] for plane in answer] for answer in (ann, snn)]
                equal += first_maximum(pick[0]) == first_maximum(pick[1])
    found = compare(ANN, SNN, batches(images, None, sizes))
    assert found.agreeing == pytest.approx(equal / 8)
    assert found.images == count
    assert 0 <= found.fidelity("x").top1_agreement <= 1


def test_equal_networks_agree_without_noise():
    images = torch.randn(5, 2, CLASSES, generator=torch.Generator().manual_seed(0))
    found = compare(ANN, ANN, [(images, None)])
    assert found.agreeing == found.images == 5
    assert found.fidelity("x").logit_sqnr_db is None


def test_labels_below_zero_count_as_wrong_for_both():
    images = torch.randn(6, 2, CLASSES, generator=torch.Generator().manual_seed(0))
    metric = compare(ANN, SNN, [(images, torch.full((6,), -1))]).metric()
    assert metric.ann == metric.snn == 0


def test_no_gradients_are_kept():
    layer = nn.Linear(3, 2)
    compare(layer, layer, [(torch.ones(2, 3, requires_grad=True), None)])
    assert layer.weight.grad is None


def test_no_images_are_refused():
    with pytest.raises(InputError, match="no images"):
        compare(ANN, SNN, [])


def test_empty_batches_are_refused_or_counted_as_none():
    with pytest.raises(InputError, match="no images"):
        compare(ANN, SNN, [(torch.zeros(0, 2, CLASSES), None)])


@pytest.mark.parametrize(("shape", "labels"), [((4, 2), torch.zeros(4)), ((4, 2, 3, 5), torch.zeros(4))])
def test_outputs_that_are_no_logits_are_refused(shape, labels):
    with pytest.raises(InputError, match="logits"):
        compare(ANN, SNN, [(torch.zeros(shape), labels)])


def test_fewer_labels_than_images_are_refused():
    with pytest.raises(InputError):
        compare(ANN, SNN, [(torch.zeros(4, 2, CLASSES), torch.zeros(3, dtype=torch.int64))])


class Decider(nn.Module):
    """Returns classes instead of logits, as exported networks do."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x))).argmax(1)


def test_networks_that_return_decisions_are_compared_by_them(tmp_path):
    torch.manual_seed(0)
    net, images = Decider().eval(), torch.randn(8, 3, 6, 6)
    snn = snnconvert.convert(net, images, progress=False)
    fidelity = snn.report.fidelity
    equal = (net(images) == snn(images)).double().mean()
    assert fidelity.top1_agreement == pytest.approx(float(equal))
    assert fidelity.top1_agreement > 0.95
    assert fidelity.logit_sqnr_db is None
    snn.save(tmp_path / "net")
    assert torch.equal(snnconvert.load(tmp_path / "net")(images), snn(images))
    evaluation = compare_outputs([(3, torch.tensor([0, 1, 2]), torch.tensor([0, 2, 1]), torch.tensor([0, 1, 1]))])
    assert (evaluation.both, evaluation.only_ann, evaluation.only_snn) == (1, 1, 1)
    with pytest.raises(InputError, match="logits"):
        compare_outputs([(8, net(images), snn(images), torch.zeros(8, dtype=torch.int64))])


@pytest.mark.parametrize("first", mostly_slow([torch.tensor(2.0), torch.full((5, 4), 1e3)], keep=1))
def test_outputs_without_a_batch_do_not_count(first):
    class Extra(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
            self.register_buffer("first", first)

        def forward(self, x):
            return {"first": self.first * 1.0, "logits": self.layers(x)}

    net, x = Extra().eval(), torch.randn(16, 6)
    fidelity = snnconvert.convert(net, x, progress=False).report.fidelity
    alone = snnconvert.convert(net.layers, x, progress=False).report.fidelity
    assert fidelity == alone
