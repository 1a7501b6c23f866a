"""Tasks: conversions of every fold, and which of them judges which images."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.trained import detection
from benchmarks.trained.photographs import read_pixels
from benchmarks.trained.task import Figures, Task, measure
from snnconvert.config import ConversionConfig


def small_network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten()).eval()


class Scaled(nn.Module):
    """Stands for a conversion: multiplies what the ANN gives."""

    def __init__(self, ann, factor):
        super().__init__()
        self.ann, self.factor = ann, factor
        self.report = SimpleNamespace(of=factor)

    def forward(self, x):
        return self.factor * self.ann(x)


def test_every_fold_is_converted_on_its_own_data_and_all_are_judged_together():
    generator = torch.Generator().manual_seed(2)
    folds = [scale * torch.rand(40, 3, 6, 6, generator=generator) for scale in (1.0, 3.0)]
    judged = []

    def figures(snns):
        judged.append(snns)
        return Figures(0.9, 0.8, 7, {"more": 1}, (-0.2, 0.0))

    task = Task("net", "share", small_network(), [partial(lambda x: x, fold) for fold in folds], "images", figures)
    result = measure(task, ConversionConfig(bits=1, T=3))
    ((first, second),) = judged
    thresholds = [next(neurons.threshold for _, neurons in snn.neurons()) for snn in (first, second)]
    assert thresholds[1] == pytest.approx(3 * thresholds[0], rel=0.1)
    assert first.config.T == second.config.T == 3
    assert result.report is first.report
    assert (result.network, result.metric, result.calibration) == ("net", "share", "2 times images")
    assert (result.ann, result.snn, result.samples, result.details) == (0.9, 0.8, 7, {"more": 1})
    assert result.difference_ci95 == (-0.2, 0.0)
    assert result.conversion_seconds > 0
    assert task.judge([first]).calibration == "images"
    assert task.judge([first]).conversion_seconds is None


@pytest.fixture
def detector(monkeypatch, tmp_path):
    """A detector task on ten images of which each has one colour, its number; its figures keep what they are given."""
    monkeypatch.setenv("SNNCONVERT_DATA", str(tmp_path))
    folder = tmp_path / "detection" / "coco" / "images"
    folder.mkdir(parents=True)
    for index in range(10):
        Image.fromarray(np.full((8, 8, 3), 20 * index, np.uint8)).save(folder / f"{index}.jpg")
    monkeypatch.setattr(detection, "load_onnx", lambda path: SimpleNamespace(module=nn.Identity()))
    given = []

    def figures(ann, snn, images):
        given.append((ann, snn, [path.stem for path in images]))
        return Figures(1.0, 0.5, len(images))

    def task(images=None):
        return detection.detector_task("net.onnx", "mAP", read_pixels, 2, figures, images)

    return task, given


def colours(outputs):
    (of_images,) = outputs
    return of_images.mean((1, 2, 3)).tolist()


def test_each_image_is_judged_by_the_conversion_that_hasnt_seen_it(detector):
    build, given = detector
    task = build()
    task.judge([Scaled(task.ann, factor) for factor in (1, 2, 3, 4)])
    ((ann, snn, images),) = given
    assert images == ["0", "4", "8", "1", "5", "9", "2", "6", "3", "7"]
    numbers = [round(colour / 20) for colour in colours(ann)]
    assert numbers == [int(name) for name in images]
    factors = [1 + number % 4 for number in numbers]
    assert colours(snn) == [factor * colour for factor, colour in zip(factors, colours(ann), strict=True)]
    for fold, calibration in enumerate(task.calibrations):
        seen = {round(float(image.mean()) / 20) for batch in calibration() for image in batch}
        assert seen == {number for number in range(10) if number % 4 != fold}


def test_one_conversion_is_judged_on_the_first_fold(detector):
    build, given = detector
    task = build(images=2)
    result = task.judge([Scaled(task.ann, 2)])
    ((ann, snn, images),) = given
    assert images == ["0", "4"]
    assert len(ann[0]) == len(snn[0]) == result.samples == 2
    assert result.calibration == "7 other images of COCO"
