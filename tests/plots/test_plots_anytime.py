import pytest
import torch
from torch import nn

import snnconvert
from snnconvert.errors import InputError
from snnconvert.in_time import AnytimeCurve
from snnconvert.plots.anytime import anytime_accuracy, wilson_interval
from snnconvert.plots.curves import accuracy_curve


def batches(images, labels, size):
    return list(zip(images.split(size), labels.split(size), strict=True))


@pytest.mark.parametrize("code", ["packed", "if"])
@pytest.mark.parametrize("latency", ["streaming", "window"])
def test_shares_are_those_of_the_readout_whatever_the_batches(converted, code, latency):
    networks, images = converted
    snn = networks[code]
    simulation = snn.simulate(images, latency=latency)
    labels = simulation.output.argmax(1)
    labels[::3] = (labels[::3] + 1) % 5
    labels[0] = -1
    curve = anytime_accuracy(snn, batches(images, labels, 24), latency=latency)
    assert curve.ticks == simulation.readout_ticks
    decisions = simulation.readout.argmax(2)
    assert curve.accuracy == tuple((decisions == labels).double().mean(1).tolist())
    assert curve.agreement == tuple((decisions == decisions[-1]).double().mean(1).tolist())
    assert curve.agreement[-1] == 1
    assert curve.images == 24
    with_an_empty_batch = [(images[:0], labels[:0]), *batches(images, labels, 7)]
    assert anytime_accuracy(snn, with_an_empty_batch, latency=latency) == curve


def test_bad_batches_are_refused(converted):
    networks, images = converted
    with pytest.raises(InputError, match="no images"):
        anytime_accuracy(networks["if"], [])
    with pytest.raises(InputError, match="one label an image"):
        anytime_accuracy(networks["if"], [(images, torch.zeros(3, dtype=torch.int64))])


def test_only_logits_have_an_accuracy():
    images = torch.rand(4, 1, 6, 6)
    dense = snnconvert.convert(nn.Sequential(nn.Conv2d(1, 2, 3)).eval(), images, progress=False)
    with pytest.raises(InputError, match=r"logits \[N, classes\]"):
        anytime_accuracy(dense, [(images, torch.zeros(4, dtype=torch.int64))])


@pytest.mark.parametrize(
    ("share", "count", "low", "high"), [(0.0, 10, 0.0, 0.2775), (0.5, 100, 0.4038, 0.5962), (1.0, 540, 0.9929, 1.0)]
)
def test_wilson_intervals(share, count, low, high):
    assert wilson_interval(share, count) == pytest.approx((low, high), abs=1e-4)


def test_the_curve_shows_accuracy_interval_agreement_and_the_ann():
    curve = AnytimeCurve((5, 6, 7), (0.25, 0.5, 0.75), (0.5, 0.75, 1.0), 100)
    figure = accuracy_curve(curve, ann_accuracy=0.8)
    axes = figure.axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["accuracy of the SNN"] == [25, 50, 75]
    assert lines["agreement with final decision"] == [50, 75, 100]
    assert lines["accuracy of the ANN, 80.0 %"] == [80, 80]
    corners = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(100 * wilson_interval(0.25, 100)[0])
    assert corners.max() == pytest.approx(100 * wilson_interval(0.75, 100)[1])
    assert "75.0 % on 100 images at tick 7" in axes.get_title(loc="left")
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "accuracy of the ANN, 80.0 %"
    assert not any("ANN" in line.get_label() for line in accuracy_curve(curve).axes[0].lines)


def test_without_labels_the_curve_shows_agreement(converted):
    networks, images = converted
    curve = anytime_accuracy(networks["if"], [(images, None)])
    assert curve.accuracy is None
    axes = accuracy_curve(curve).axes[0]
    (line,) = axes.lines
    assert list(line.get_ydata()) == pytest.approx([100 * share for share in curve.agreement])
    assert line.get_label() == "agreement with final decision"
    assert len(axes.collections) == 1
