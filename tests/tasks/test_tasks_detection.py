"""Detection metrics against pycocotools called directly, and what loaders and detectors may give."""

import contextlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from task_networks import Scripted, random_detections

import snnconvert
from snnconvert.errors import InputError
from snnconvert.tasks.average_precision import IOU_LEVELS, mean_over_classes, rankings
from snnconvert.tasks.bootstrap import once
from snnconvert.tasks.detection import _boxes, coco_average_precision

LABEL, FOUND = ("boxes", "labels"), ("boxes", "labels", "scores")


def wide(corners):
    return [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]


def by_pycocotools(found, truth):
    """mAP and mAP50 by COCO's own code."""
    with contextlib.redirect_stdout(io.StringIO()):
        labels = [
            {
                "id": 100 * image + number + 1,
                "image_id": image,
                "category_id": int(which),
                "bbox": wide(corners.double()),
                "area": float((corners[2:] - corners[:2]).prod()),
                "iscrowd": int(target["iscrowd"][number]),
            }
            for image, target in enumerate(truth)
            for number, (corners, which) in enumerate(zip(target["boxes"], target["labels"], strict=True))
        ]
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(len(truth))],
            "categories": [{"id": which} for which in range(1, 4)],
            "annotations": labels,
        }
        coco.createIndex()
        detections = [
            {"image_id": image, "category_id": int(which), "bbox": wide(corners.double()), "score": float(score)}
            for image, output in enumerate(found)
            for corners, which, score in zip(output["boxes"], output["labels"], output["scores"], strict=True)
        ]
        judge = COCOeval(coco, coco.loadRes(detections), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def scene(seed, images=6, crowds=True):
    generator = torch.Generator().manual_seed(seed)
    truth = [random_detections(generator, int(torch.randint(0, 6, (1,), generator=generator))) for _ in range(images)]
    truth[0] = random_detections(generator, 4)
    for target in truth:
        del target["scores"]
        chance = torch.rand(len(target["labels"]), generator=generator)
        target["iscrowd"] = (chance < 0.25).long() if crowds else torch.zeros(len(chance), dtype=torch.int64)
    truth[0]["iscrowd"][0] = 0
    found = [random_detections(generator, 12, jitter_of=target) for target in truth]
    return found, truth


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_all_three_ways_agree(seed):
    found, truth = scene(seed)
    detections, labels = [_boxes(item, "", FOUND) for item in found], [_boxes(item, "", LABEL) for item in truth]
    expected = by_pycocotools(found, truth)
    by_torchmetrics = coco_average_precision(detections, labels)
    assert (by_torchmetrics["mAP"], by_torchmetrics["mAP50"]) == pytest.approx(expected, abs=1e-6)
    for levels, value in zip((IOU_LEVELS, IOU_LEVELS[:1]), expected, strict=True):
        own = mean_over_classes(rankings(detections, labels, levels, 100), once(len(truth)))
        assert float(own) == pytest.approx(value, abs=1e-6)


def pictures(count):
    return [torch.rand(3, 8, 8) for _ in range(count)]


def test_metrics_of_both_networks_and_their_interval():
    found, truth = scene(3, images=30, crowds=False)
    worse = [{**output, "scores": 1 - output["scores"]} for output in found]
    loader = [(pictures(10), truth[start : start + 10]) for start in (0, 10, 20)]
    parts = [[outputs[start : start + 10] for start in (0, 10, 20)] for outputs in (found, worse)]
    result = snnconvert.evaluate(*map(Scripted, parts), loader, task="detection", resamples=100)
    assert [metric.name for metric in result.metrics[:2]] == ["mAP", "mAP50"]
    assert result.images == 30
    for metric, before, after in zip(
        result.metrics, by_pycocotools(found, truth), by_pycocotools(worse, truth), strict=False
    ):
        assert (metric.ann, metric.snn) == pytest.approx((before, after), abs=1e-6)
        low, high = metric.difference_ci95
        assert low < metric.snn - metric.ann < high
        assert high - low < 0.5


def test_batches_make_no_difference():
    found, truth = scene(5, images=8)
    whole = snnconvert.evaluate(Scripted([found]), Scripted([found]), [(pictures(8), truth)], task="detection")
    single = snnconvert.evaluate(
        Scripted([[output] for output in found]),
        Scripted([[output] for output in found]),
        [(picture, target) for picture, target in zip(pictures(8), truth, strict=True)],
        task="detection",
    )
    assert whole == single
    assert whole.metric.difference_ci95 == (0.0, 0.0)


def test_without_labels_the_anns_sure_boxes_are_the_truth():
    sure = {"boxes": torch.tensor([[0.0, 0, 9, 9], [20, 20, 30, 30]]), "labels": torch.tensor([1, 2])}
    ann = {**sure, "scores": torch.tensor([0.9, 0.4])}
    snn = {**sure, "labels": torch.tensor([2, 2]), "scores": torch.tensor([0.9, 0.4])}
    result = snnconvert.evaluate(Scripted([[ann]]), Scripted([[snn]]), [pictures(1)], task="detection")
    (metric,) = result.metrics
    assert "ANN's boxes" in metric.name
    assert (metric.ann, metric.snn, metric.difference_ci95) == (1.0, 0.0, None)
    less = snnconvert.evaluate(Scripted([[ann]]), Scripted([[snn]]), [pictures(1)], task="detection", score=0.3)
    assert less.metric.snn == pytest.approx(0.5 * 1.0 * 0.5)  # class 2: one false box in front of the right one
    none = snnconvert.evaluate(Scripted([[ann]]), Scripted([[snn]]), [pictures(1)], task="detection", score=0.95)
    assert none.metrics == ()
    assert "0.95" in " ".join(none.notes)


def test_images_without_any_labelled_box():
    found, _ = scene(1, images=2)
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    result = snnconvert.evaluate(Scripted([found]), Scripted([found]), [(pictures(2), nothing)], task="detection")
    assert "mAP" not in [metric.name for metric in result.metrics]
    assert "no image has a labelled box" in " ".join(result.notes)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([{"boxes": torch.zeros(1, 4)}], "labels"),
        ([{"boxes": torch.zeros(1, 3), "labels": torch.tensor([1])}], "[K, 4]"),
        ([{"boxes": torch.zeros(2, 4), "labels": torch.tensor([1])}], "[K, 4]"),
        ([{"boxes": torch.full((1, 4), float("nan")), "labels": torch.tensor([1])}], "NaN"),
        ([{"boxes": torch.zeros(1, 4), "labels": torch.tensor([0.5])}], "integers"),
        ([{"boxes": torch.zeros(1, 4), "labels": torch.tensor([1]), "iscrowd": torch.zeros(2)}], "iscrowd"),
        ([], "one target each"),
    ],
)
def test_targets_of_another_form(targets, words):
    found, _ = scene(1, images=1)
    with pytest.raises(InputError) as caught:
        snnconvert.evaluate(Scripted([found]), Scripted([found]), [(pictures(1), targets)], task="detection")
    assert words in str(caught.value)


def test_labels_of_some_images_only():
    found, truth = scene(1, images=1)
    for loader in ([(pictures(1), truth), pictures(1)], [pictures(1), (pictures(1), truth)]):
        with pytest.raises(InputError, match="all or none"):
            snnconvert.evaluate(Scripted([found] * 2), Scripted([found] * 2), loader, task="detection")


def test_no_images():
    with pytest.raises(InputError, match="no images"):
        snnconvert.evaluate(Scripted([]), Scripted([]), [], task="detection")
