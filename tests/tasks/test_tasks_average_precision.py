"""Average precision against values worked out by hand."""

import pytest
import torch

from snnconvert.tasks.average_precision import Boxes, mean_average_precision, mean_over_classes, rankings


def boxes(*items):
    """Boxes from (left edge, class, score), each one wide and high."""
    corners = torch.tensor([[x, 0.0, x + 1, 1.0] for x, _, _ in items]).view(-1, 4)
    classes = torch.tensor([which for _, which, _ in items], dtype=torch.int64)
    return Boxes(corners, classes, torch.tensor([float(score) for _, _, score in items]))


TRUTH = boxes((0, 0, 1), (5, 0, 1))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (boxes((0, 0, 0.9), (5, 0, 0.8)), 1.0),
        (boxes((0.2, 0, 0.9), (5.3, 0, 0.8)), 1.0),  # overlaps of 2/3 and 7/13
        (boxes((0.4, 0, 0.9), (5, 0, 0.8)), 51 / 101 / 2),  # 3/7 is too little
        (boxes((0, 0, 0.9)), 51 / 101),  # recall of one half
        (boxes((0, 0, 0.9), (0, 0, 0.8), (5, 0, 0.7)), 51 / 101 + 50 / 101 * 2 / 3),  # found twice
        (boxes((0, 1, 0.9), (5, 1, 0.8)), 0.0),  # of another class
        (boxes(), 0.0),
    ],
)
def test_one_image(found, expected):
    assert mean_average_precision([found], [TRUTH]) == pytest.approx(expected)


def test_detections_of_all_images_are_ranked_together_and_classes_count_alike():
    truth = [boxes((0, 0, 1)), boxes((0, 0, 1), (5, 3, 1)), boxes()]
    found = [boxes((0, 0, 0.2)), boxes((0, 0, 0.9), (5, 3, 0.1)), boxes((2, 0, 0.5), (2, 7, 0.5))]
    assert mean_average_precision(found, truth) == pytest.approx((51 / 101 + 50 / 101 * 2 / 3 + 1) / 2)


def test_the_better_detection_takes_the_label_it_overlaps_most():
    truth = boxes((0, 0, 1), (0.4, 0, 1))
    found = boxes((0.3, 0, 0.9), (0, 0, 0.8))
    assert mean_average_precision([found], [truth]) == pytest.approx(1.0)


def test_images_without_any_label_are_refused():
    with pytest.raises(ValueError, match="at least one label"):
        mean_average_precision([boxes()], [boxes()])


def test_images_that_count_several_times_are_as_good_as_copies():
    generator = torch.Generator().manual_seed(4)

    def some(number):
        places = torch.randint(4, (number, 2), generator=generator).tolist()
        scores = torch.rand(number, generator=generator).tolist()
        return boxes(*((2.0 * x, which, score) for (x, which), score in zip(places, scores, strict=True)))

    found, truth = [some(6) for _ in range(5)], [some(3) for _ in range(5)]
    counts = torch.randint(4, (8, 5), generator=generator)
    together = mean_over_classes(rankings(found, truth), counts.double())
    for row, value in zip(counts.tolist(), together.tolist(), strict=True):
        copies = [index for index, count in enumerate(row) for _ in range(count)]
        expected = mean_average_precision([found[index] for index in copies], [truth[index] for index in copies])
        assert value == pytest.approx(expected)
