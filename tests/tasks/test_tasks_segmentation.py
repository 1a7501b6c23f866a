"""Mean IoU against torchmetrics' own metric, and what loaders and networks may give."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from task_networks import Scripted
from torchmetrics.classification import MulticlassJaccardIndex

import snnconvert
from snnconvert.errors import InputError
from snnconvert.tasks.segmentation import mean_iou, overlap, segmentation_logits


def logits(images, classes=4, side=6, seed=0):
    return torch.randn(images, classes, side, side, generator=torch.Generator().manual_seed(seed))


def masks(images, classes=4, side=6, seed=1):
    drawn = torch.randint(classes + 1, (images, side, side), generator=torch.Generator().manual_seed(seed))
    return torch.where(drawn == classes, 255, drawn)


def jaccard(output, mask, void=255):
    metric = MulticlassJaccardIndex(output.shape[1], average="macro", ignore_index=void)
    for one, truth in zip(output, mask, strict=True):
        if one.shape[1:] != truth.shape:
            one = F.interpolate(one[None], truth.shape, mode="bilinear")[0]
        metric.update(one.argmax(0), truth)
    return float(metric.compute())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 4), st.integers(3, 7))
def test_as_torchmetrics(seed, classes, images, side):
    output, truth = logits(images, classes, 6, seed), masks(images, classes, side, seed + 1)
    truth[0, 0, 0] = 0
    result = snnconvert.evaluate(
        Scripted([output]), Scripted([{"out": output.roll(1, 1)}]), [(output, list(truth))], task="segmentation"
    )
    assert result.metric.name == "mIoU"
    assert result.metric.ann == pytest.approx(jaccard(output, truth), abs=1e-6)
    assert result.metric.snn == pytest.approx(jaccard(output.roll(1, 1), truth), abs=1e-6)


def test_a_class_can_be_void():
    output, truth = logits(3), masks(3).clamp(max=3)
    result = snnconvert.evaluate(Scripted([output]), Scripted([output]), [(output, truth)], task="segmentation", void=0)
    assert result.metric.ann == pytest.approx(jaccard(output, truth, void=0), abs=1e-6)


def test_by_hand():
    decided, truth = torch.tensor([[0, 0, 1], [1, 1, 2]]), torch.tensor([[0, 1, 1], [1, 255, 2]])
    output = F.one_hot(decided, 4).permute(2, 0, 1).float()
    shared, either = overlap(output, truth)
    assert shared.tolist() == [1, 2, 1, 0]
    assert either.tolist() == [2, 3, 1, 0]
    counts = torch.ones(1, 1).double()
    assert float(mean_iou(shared[None], either[None], counts)) == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)


def test_images_that_count_several_times_are_as_good_as_copies():
    pairs = [overlap(one, mask) for one, mask in zip(logits(4), masks(4), strict=True)]
    shared, either = (torch.stack([pair[which] for pair in pairs]) for which in (0, 1))
    counts = torch.tensor([[1.0, 0, 3, 2], [0, 0, 0, 5]]).double()
    for row, value in zip(counts, mean_iou(shared, either, counts), strict=True):
        copies = torch.repeat_interleave(torch.arange(4), row.long())
        expected = mean_iou(shared[copies], either[copies], torch.ones(1, len(copies)).double())
        assert float(value) == pytest.approx(float(expected))


def test_interval_agreement_and_batches():
    output, truth = logits(12), masks(12)
    spiking = output + 0.8 * logits(12, seed=7)
    whole = snnconvert.evaluate(Scripted([output]), Scripted([spiking]), [(output, truth)], task="segmentation")
    low, high = whole.metric.difference_ci95
    assert low < whole.metric.snn - whole.metric.ann < high
    assert whole.fidelity.top1_agreement == pytest.approx(
        float((output.argmax(1) == spiking.argmax(1)).double().mean())
    )
    parts = snnconvert.evaluate(
        Scripted(output.split(5)), Scripted(spiking.split(5)), zip(output.split(5), truth.split(5), strict=True),
        task="segmentation",
    )  # fmt: skip
    assert parts.metrics == whole.metrics
    assert parts.fidelity.logit_sqnr_db == pytest.approx(whole.fidelity.logit_sqnr_db)


def test_masks_of_several_sizes():
    output, truth = logits(2), [masks(1, side=5)[0], masks(1, side=11)[0]]
    result = snnconvert.evaluate(Scripted([output]), Scripted([output]), [(list(output), truth)], task="segmentation")
    assert result.metric.ann == pytest.approx(jaccard(output, truth), abs=1e-6)
    assert result.metric.difference_ci95 == (0.0, 0.0)


def test_without_masks():
    output = logits(2)
    result = snnconvert.evaluate(Scripted([output]), Scripted([output]), [output], task="segmentation")
    assert result.metric is None
    assert result.fidelity.top1_agreement == 1.0
    assert "no masks" in result.notes[0]


def test_only_void():
    output = logits(2)
    truth = torch.full((2, 6, 6), 255)
    result = snnconvert.evaluate(Scripted([output]), Scripted([output]), [(output, truth)], task="segmentation")
    assert result.metric is None
    assert "void" in result.notes[0]


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"out": x}, lambda x: {"logits": x, "aux": 0}, lambda x: (x,)])
def test_outputs(wrap):
    assert segmentation_logits(wrap(logits(1))).shape == (1, 4, 6, 6)


@pytest.mark.parametrize("output", [torch.zeros(2, 4), {"masks": torch.zeros(1)}, None, torch.zeros(1, 4, 2, 2).long()])
def test_other_outputs(output):
    with pytest.raises(InputError, match="segmentation needs"):
        segmentation_logits(output)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ((logits(2), masks(1)), "1 masks for 2 images"),
        ((logits(2), masks(2).float()), "integers"),
        ((logits(2), torch.full((2, 6, 6), 4)), "class 4"),
        ((logits(2), torch.full((2, 6, 6), -1)), "class -1"),
        (("no", "images"), "pair"),
        ((torch.full((1, 3, 4, 4), float("inf")), None), "NaN or Inf"),
        (([torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)], None), "different sizes"),
    ],
)
def test_items_of_another_form(item, words):
    output = logits(2)
    with pytest.raises(InputError) as caught:
        snnconvert.evaluate(Scripted([output]), Scripted([output]), [item], task="segmentation")
    assert words in str(caught.value)


def test_masks_of_some_batches_only():
    output = logits(2)
    for loader in ([(output, masks(2)), output], [output, (output, masks(2))]):
        with pytest.raises(InputError, match="all or none"):
            snnconvert.evaluate(Scripted([output] * 2), Scripted([output] * 2), loader, task="segmentation")
