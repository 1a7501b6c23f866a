"""Evaluation by the task's name."""

import sys

import pytest
import torch
from task_networks import Scripted

import snnconvert
from snnconvert.errors import InputError
from snnconvert.evaluation import compare
from snnconvert.report.schema import Metric


def test_classification_is_what_it_was():
    generator = torch.Generator().manual_seed(0)
    ann = torch.nn.Linear(5, 3)
    snn = torch.nn.Linear(5, 3)
    batches = [(torch.randn(7, 5, generator=generator), torch.randint(3, (7,), generator=generator)) for _ in range(3)]
    result, expected = snnconvert.evaluate(ann, snn, batches), compare(ann, snn, batches)
    assert result.metrics == (expected.metric(),)
    assert result.fidelity == expected.fidelity("evaluation images")
    unlabelled = snnconvert.evaluate(ann, snn, [images for images, _ in batches])
    assert unlabelled.metrics == ()
    assert unlabelled.fidelity == result.fidelity


def test_unknown_tasks_and_settings():
    with pytest.raises(InputError, match="'depth' is none of classification"):
        snnconvert.evaluate(Scripted([]), Scripted([]), [], task="depth")
    with pytest.raises(InputError, match="no setting 'score'"):
        snnconvert.evaluate(Scripted([]), Scripted([]), [], task="segmentation", score=1)
    with pytest.raises(InputError, match="int"):
        snnconvert.evaluate(Scripted([]), Scripted([]), 3, task="segmentation")


@pytest.mark.parametrize(
    ("task", "item", "module"),
    [
        ("segmentation", (torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3).long()), "torchmetrics.functional"),
        (
            "detection",
            ([torch.zeros(3, 4, 4)], [{"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([1])}]),
            "pycocotools.cocoeval",
        ),
    ],
)
def test_a_missing_extra_is_named(task, item, module, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
    output = torch.zeros(1, 2, 3, 3) if task == "segmentation" else [empty]
    with pytest.raises(InputError, match=r"snnconvert\[tasks\]"):
        snnconvert.evaluate(Scripted([output]), Scripted([output]), [item], task=task)


@pytest.mark.parametrize("interval", [None, (-0.1, 0.2)])
def test_a_metric_is_read_back(interval):
    metric = Metric("mIoU", 0.5, 0.4, 3, interval)
    read = {**metric.__dict__, "difference_ci95": interval and list(interval)}
    assert Metric.from_dict(read) == metric
