"""Mean IoU of resampled images against that of copies, counted pixel by pixel."""

import pytest
import torch

from benchmarks.trained.camvid import confusion, resampled_iou


def expected_iou(decided, masks):
    """By sets of pixels; class 11 is void."""
    values = []
    for which in range(11):
        known = masks < 11
        true, found = (masks == which) & known, (decided == which) & known
        if true.any():
            values.append(float((true & found).sum() / (true | found).sum()))
    return sum(values) / len(values)


def test_images_that_count_several_times_are_as_good_as_copies():
    generator = torch.Generator().manual_seed(5)
    masks = torch.randint(12, (4, 6, 7), generator=generator)
    masks[masks == 3] = 4
    decided = torch.where(torch.rand(masks.shape, generator=generator) < 0.6, masks, 3)
    confusions = torch.stack([confusion(*pair) for pair in zip(decided, masks, strict=True)])
    counts = torch.tensor([[1, 1, 1, 1], [3, 0, 1, 0], [0, 0, 0, 4]])
    for row, value in zip(counts, resampled_iou(confusions, counts.double()), strict=True):
        copies = torch.arange(4).repeat_interleave(row)
        assert float(value) == pytest.approx(expected_iou(decided[copies], masks[copies]))
