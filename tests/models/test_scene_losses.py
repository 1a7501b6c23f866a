import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.data.scenes import Scenes
from snnconvert.models.scene_decode import boxes_of, decode, locations
from snnconvert.models.scene_losses import assign, detection_distance, detection_loss, segmentation_loss
from snnconvert.models.train_scenes import SceneBatch

BIG = 12.0


def perfect(boxes, labels, side=16):
    """Outputs that say of each location exactly what it is assigned."""
    points = locations(side, side)
    wanted = assign(points, [boxes], [labels])
    found = wanted.labels[0] > 0
    classes = torch.full((side * side, 4), -BIG)
    classes[found, wanted.labels[0][found] - 1] = BIG
    near = torch.cat([points - wanted.boxes[0][:, :2], wanted.boxes[0][:, 2:] - points], 1)
    sides = torch.where(found[:, None], near.clamp(min=1e-6) / 8, 1).log()
    centres = torch.logit(wanted.centreness[0].clamp(1e-5, 1 - 1e-5))[:, None]
    return tuple(part.T.reshape(1, -1, side, side) for part in (classes, sides, centres))


@given(st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_decoding_inverts_the_assignment(index):
    scene = Scenes(501, 128, 3)[index]
    (found,) = decode(perfect(scene.boxes, scene.labels), (128, 128))
    reached = set(assign(locations(16, 16), [scene.boxes], [scene.labels]).boxes[0].unique(dim=0).sum(1).tolist())
    for box, label in zip(scene.boxes, scene.labels, strict=True):
        if float(box.sum()) not in reached:
            continue  # every location at its centre belongs to a smaller one
        overlaps = (found["boxes"][found["labels"] == label] - box).abs().amax(1)
        assert float(overlaps.min()) < 0.01


def test_assignment_by_hand():
    boxes = torch.tensor([[0.0, 0, 32, 32], [12, 12, 20, 20]])
    wanted = assign(locations(4, 4), [boxes, torch.zeros(0, 4)], [torch.tensor([2, 4]), torch.zeros(0).long()])
    # locations at 4, 12, 20, 28: within 12 px of the centre (16, 16) are 12 and 20 (and not 4 and 28, 12 px away);
    # none of them is inside of the second box, whose edges they lie on
    expected = torch.zeros(4, 4, dtype=torch.int64)
    expected[1:3, 1:3] = 2
    assert torch.equal(wanted.labels[0].view(4, 4), expected)
    assert torch.equal(wanted.labels[1], torch.zeros(16, dtype=torch.int64))
    ratio = 12 / 20
    assert math.isclose(float(wanted.centreness[0].max()), math.sqrt(ratio * ratio), rel_tol=1e-6)


def test_the_smaller_of_two_boxes_wins():
    boxes = torch.tensor([[0.0, 0, 32, 32], [8, 8, 24, 24]])
    wanted = assign(locations(4, 4), [boxes], [torch.tensor([1, 3])])
    assert set(wanted.labels[0].tolist()) == {0, 3}


def test_losses_are_smallest_at_the_truth():
    scene = Scenes(1, 128, 4)[0]
    right = perfect(scene.boxes, scene.labels)
    least = detection_loss(right, [scene.boxes], [scene.labels])
    classes, sides, centres = right
    for wrong in ((classes.roll(1, 1), sides, centres), (classes, sides + 0.1, centres), (classes, sides, -centres)):
        assert detection_loss(wrong, [scene.boxes], [scene.labels]) > least + 0.1
    logits = 20 * torch.nn.functional.one_hot(scene.mask, 5).permute(2, 0, 1).float()[None]
    assert float(segmentation_loss(logits, scene.mask[None])) < 1e-6
    assert float(segmentation_loss(torch.zeros_like(logits), scene.mask[None])) > 1.6


def test_no_shape_at_all():
    nothing = [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)]
    outputs = tuple(torch.full((1, n, 4, 4), -BIG, requires_grad=True) for n in (4, 4, 1))
    loss = detection_loss(outputs, *nothing)
    loss.backward()
    assert float(loss.detach()) < 1e-3
    (found,) = decode(outputs, (32, 32))
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].dtype == torch.int64


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_turning_a_batch_keeps_boxes_tight(transpose, mirror, flip, index):
    scene = Scenes(51, 64, 7)[index]
    batch = SceneBatch(scene.image[None], scene.instances[None], [scene.boxes], [scene.labels])
    turned = batch.turned(transpose, mirror, flip)
    for number, box in enumerate(turned.boxes[0], start=1):
        rows, columns = torch.nonzero(turned.masks[0] == number, as_tuple=True)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    back = turned.images[0]
    back = back.flip(-2) if flip else back
    back = back.flip(-1) if mirror else back
    assert torch.equal(back.mT if transpose else back, scene.image)


def test_boxes_of_zero_logits_reach_one_stride():
    assert boxes_of(torch.zeros(1, 4), torch.tensor([[20.0, 28.0]])).tolist() == [[12, 20, 28, 36]]


def predictions(seed):
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, channels, 4, 4, generator=random) for channels in (4, 4, 1))


def test_a_detector_is_nowhere_from_itself_and_somewhere_from_others():
    one, other = predictions(0), predictions(1)
    assert float(detection_distance(one, one)) == pytest.approx(0, abs=1e-5)
    assert float(detection_distance(other, one)) > 0.1


def test_boxes_count_only_where_the_other_detector_sees_objects():
    classes, sides, centres = predictions(0)
    seen = torch.full_like(classes, -20.0)
    seen[:, 0, 1, 2] = 20.0
    reference = (seen, sides, torch.full_like(centres, 20.0))
    elsewhere = sides.clone()
    elsewhere[..., 3, 3] += 1.0
    there = sides.clone()
    there[..., 1, 2] += 1.0
    assert float(detection_distance((seen, elsewhere, reference[2]), reference)) == pytest.approx(0, abs=1e-3)
    assert float(detection_distance((seen, there, reference[2]), reference)) > 0.3


def test_the_distance_pulls_a_detector_to_the_other():
    wanted = predictions(3)
    found = [part.clone().requires_grad_() for part in predictions(4)]
    optimizer = torch.optim.Adam(found, 0.1)
    losses = []
    for _ in range(60):
        loss = detection_distance(tuple(found), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
