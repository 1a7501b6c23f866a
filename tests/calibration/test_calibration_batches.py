from collections import UserDict

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from snnconvert.calibration.statistics.batches import input_batches
from snnconvert.errors import InputError
from snnconvert.inputs import Inputs

IMAGES = torch.arange(40.0).reshape(10, 4)
PARTS = list(IMAGES.split(3))


def values(loader, transform=None):
    batches = [inputs.args[0] for inputs in input_batches(loader, transform)]
    assert all(batch.dtype == torch.float32 for batch in batches)
    return torch.cat(batches)


@pytest.mark.parametrize(
    "form",
    [
        IMAGES,
        PARTS,
        iter(PARTS),
        [(part, torch.zeros(len(part))) for part in PARTS],
        [[part, 1, "label"] for part in PARTS],
        [(part,) for part in PARTS],
        *[[{key: part, "label": 3} for part in PARTS] for key in ("image", "images", "pixel_values", "x", "input")],
        [UserDict(pixel_values=part) for part in PARTS],
        [part.double() for part in PARTS],
        [part.to(torch.uint8) for part in PARTS],
        DataLoader(TensorDataset(IMAGES, torch.zeros(10)), batch_size=4),
        DataLoader(TensorDataset(IMAGES), batch_size=3),
    ],
    ids=lambda form: type(form).__name__,
)
def test_accepted_forms(form):
    assert torch.equal(values(form), IMAGES)


def test_one_tensor_is_read_in_parts():
    images = torch.randn(100, 3, 2, 2)
    batches = [inputs.args[0] for inputs in input_batches(images)]
    assert torch.equal(torch.cat(batches), images)
    assert len(batches) > 1


def test_transform_reads_anything():
    assert torch.equal(values([{"what": part} for part in PARTS], lambda item: item["what"]), IMAGES)
    assert torch.equal(values([part.numpy() for part in PARTS], torch.from_numpy), IMAGES)
    # it also wins over the forms that would be accepted
    assert torch.equal(values(PARTS, lambda part: part * 2), IMAGES * 2)


@pytest.mark.parametrize("form", [lambda ids: Inputs(ids), lambda ids: (Inputs(ids), 3), lambda ids: Inputs(ids=ids)])
@pytest.mark.parametrize("transform", [None, lambda item: item[0] if isinstance(item, tuple) else item])
def test_integers_given_as_arguments_stay_integers(form, transform):
    ids = torch.arange(12).reshape(4, 3)
    (inputs,) = input_batches([form(ids)], transform)
    assert all(
        value.dtype == torch.int64 and torch.equal(value, ids) for value in [*inputs.args, *inputs.kwargs.values()]
    )


def test_nothing_is_read_ahead():
    def loader():
        yield PARTS[0]
        raise AssertionError("read too far")

    assert torch.equal(next(input_batches(loader())).args[0], PARTS[0])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("cat.png", ["str", "transform="]),
        (7, ["int", "transform="]),
        (None, ["NoneType"]),
        ((), ["tuple"]),
        ((1, IMAGES), ["tuple", "transform="]),
        ({"pixels": IMAGES, "label": 1}, ["label", "pixels", "pixel_values", "transform="]),
        ({"image": "cat.png"}, ["image", "transform="]),
        (torch.zeros(5), ["(5,)"]),
        (torch.zeros(0, 4), ["(0, 4)"]),
        (torch.tensor([[1.0, float("nan")]]), ["NaN"]),
        (torch.tensor([[1.0, float("inf")]]), ["Inf"]),
        (torch.zeros(2, 2, dtype=torch.complex64), ["complex"]),
    ],
)
def test_refused_items_are_named(item, words):
    with pytest.raises(InputError) as error:
        list(input_batches([IMAGES, item]))
    message = str(error.value)
    assert "batch 1 " in message
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("result", [None, [1.0], "x"])
def test_transform_must_return_a_tensor(result):
    with pytest.raises(InputError, match="transform returned"):
        list(input_batches([IMAGES], lambda item: result))


def test_transform_is_checked_too():
    with pytest.raises(InputError, match="batch 0"):
        list(input_batches([IMAGES], lambda item: item[0]))


def test_overflow_in_float32_is_refused():
    with pytest.raises(InputError):
        list(input_batches([torch.full((1, 2), 1e300, dtype=torch.float64)]))


def test_a_loader_must_be_iterable():
    with pytest.raises(InputError):
        list(input_batches(3))


def test_a_scalar_tensor_is_refused():
    with pytest.raises(InputError):
        list(input_batches(torch.tensor(3.0)))
