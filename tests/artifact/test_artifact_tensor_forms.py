"""Tensors survive their smallest form bit for bit, and forms that lie are refused by name."""

import json

import numpy as np
import pytest
import torch
from artifact_networks import cases
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from snnconvert.artifact.tensor_forms import from_stored, to_stored
from snnconvert.errors import ArtifactError

TYPES = (torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=40).filter(
    lambda shape: np.prod(shape) < 2000
)


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def assert_survives(tensors):
    """Bit for bit, in no more bytes; returns the forms."""
    stored, forms = to_stored(tensors)
    assert size(stored) <= size(tensors)
    again = from_stored(stored, json.loads(json.dumps(forms)))
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape)
        assert again[name].numpy().tobytes() == tensor.numpy().tobytes()
    return forms


@st.composite
def tensors(draw):
    """Of every type, with few or many different values, some of which narrower types hold."""
    dtype, shape, seed = draw(st.sampled_from(TYPES)), draw(SHAPES), draw(st.integers(0, 1 << 30))
    generator = np.random.default_rng(seed)
    magnitude = draw(st.sampled_from([0, 1, 2, 7, 100, 1000, 10**5]))
    values = generator.integers(-magnitude, magnitude + 1, shape).astype(np.float64)
    if dtype.is_floating_point:
        values *= draw(st.sampled_from([1.0, 0.1, 2.0**-20, -1e-300, 1e300]))
        values = np.where(generator.random(shape) < 0.05, draw(st.sampled_from([-0.0, np.inf, np.nan, 5e-324])), values)
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.ascontiguousarray(values)).reshape(shape).to(dtype)


@settings(deadline=None)
@given(st.lists(tensors(), max_size=4))
def test_tensors_survive_bit_for_bit(drawn):
    assert_survives({f"module_{index}.buffer": tensor for index, tensor in enumerate(drawn)})


RAMP = torch.arange(1000)
KEPT = {
    "float32 in float64": (RAMP.double() * 0.1).float().double(),
    "float16 in float64": RAMP.double() / 64,
    "float16 in float32": RAMP.float() / 64,
    "int8 in int32": RAMP.int() % 128,
    "int16 in int64": RAMP * 30 - 9000,
    "int32 in int64": RAMP * 10**6,
}


@pytest.mark.parametrize("tensor", cases(KEPT))
def test_narrower_types(tensor):
    stored, forms = to_stored({"m.t": tensor})
    assert forms in (
        {"m.t": {"dtype": str(tensor.dtype)[6:]}},
        {"m.t": {"dtype": str(tensor.dtype)[6:], "shape": [1000]}},
    )
    assert size(stored) <= size({"t": tensor}) // 2
    assert_survives({"m.t": tensor})


@pytest.mark.parametrize("tensor", [RAMP.double() * 0.1, RAMP.double() * 2.0**-1060, RAMP * 10**10, RAMP.float() * 0.1])
def test_what_no_narrower_type_holds_stays(tensor):
    assert assert_survives({"m.t": tensor}) == {}


def test_values_that_repeat_are_a_table():
    values = torch.rand(200, dtype=torch.float64)
    stored, forms = to_stored({"m.t": values.repeat(10).view(20, 100)})
    assert forms == {"m.t": {"dtype": "float64", "shape": [20, 100]}}
    assert size(stored) == 200 * 8 + 2000
    stored, _ = to_stored({"m.t": torch.full((4096,), 0.1)})
    assert size(stored) == 4 + 4096 // 8


def test_units_of_one_step_are_stored_as_what_they_are_times_it():
    gains = torch.randint(1, 256, (300,), dtype=torch.float64)
    stored, forms = to_stored({"m.unit": gains * 0.1, "m.again": (gains[:100] / 1024).repeat(20) * 0.3})
    assert forms["m.unit"].keys() == {"dtype", "scale"}
    assert forms["m.again"].keys() == {"dtype", "scale", "shape"}
    assert stored["m.unit"].dtype == stored["m.again"].dtype == torch.float16
    assert_survives({"m.unit": gains * 0.1, "m.again": (gains[:100] / 1024).repeat(20) * 0.3})


def test_negative_zero_is_no_zero():
    values = torch.tensor([0.0, -0.0]).repeat(500)
    assert assert_survives({"m.t": values}) != {}


@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_take_their_bits(bits):
    largest = max((1 << bits - 1) - 1, 1)
    weight = torch.randint(-largest, largest + 1, (16, 8, 3, 3)).to(torch.int8)
    weight = weight.sign() * 2 + 1 if bits == 1 else weight
    weight = weight.clamp(-largest, largest)
    weight[:, 0, 0, 0] = largest
    stored, forms = to_stored({"m.weight": weight})
    assert size(stored) == weight.numel() * bits // 8
    assert forms == ({"m.weight": {"shape": [16, 8, 3, 3], "bits": bits}} if bits < 8 else {})
    assert_survives({"m.weight": weight})


def test_channels_take_their_own_bits():
    widths = torch.arange(64) % 8 + 1
    largest = (2 ** (widths - 1) - 1).clamp(min=1)
    weight = torch.where(torch.rand(64, 100) < 0.5, largest[:, None], -largest[:, None]).to(torch.int8)
    weight[widths > 1, 0] = 0
    stored, forms = to_stored({"m.weight": weight})
    assert forms == {"m.weight": {"shape": [64, 100], "bits": None}}
    assert size(stored) == int((widths * 100).sum()) // 8 + 64 * 3 // 8
    assert_survives({"m.weight": weight})


def test_types_without_smaller_forms_stay():
    tensors = {"m.mask": torch.ones(500, dtype=torch.bool), "m.b": torch.ones(500, dtype=torch.bfloat16)}
    stored, forms = to_stored(tensors)
    assert forms == {}
    assert all(stored[name] is tensor for name, tensor in tensors.items())


STORED = {
    "m.narrow": torch.arange(6, dtype=torch.int16),
    "m.table": torch.tensor([0.5, 1.5, 2.5]),
    "m.table.indices": torch.tensor([0b10_01_00_10], dtype=torch.uint8),
    "m.weight": torch.zeros(9, dtype=torch.uint8),
    "m.mixed": torch.zeros(11, dtype=torch.uint8),
    "m.mixed.widths": torch.tensor([0b101_010], dtype=torch.uint8),
}
FORMS = {
    "m.narrow": {"dtype": "int64"},
    "m.table": {"dtype": "float64", "shape": [2, 2]},
    "m.weight": {"shape": [2, 9], "bits": 4},
    "m.mixed": {"shape": [2, 9], "bits": None},
}


def test_the_forms_that_are_damaged_below():
    again = from_stored(STORED, FORMS)
    assert again["m.narrow"].dtype == torch.int64
    assert again["m.table"].tolist() == [[2.5, 0.5], [1.5, 2.5]]
    scaled = from_stored(STORED, {**FORMS, "m.table": {**FORMS["m.table"], "scale": "0x1.8p1"}})
    assert scaled["m.table"].tolist() == [[7.5, 1.5], [4.5, 7.5]]
    assert again["m.weight"].shape == again["m.mixed"].shape == (2, 9)
    assert "m.mixed.widths" not in again


HUGE = 10**18
BAD_FORMS = {
    "no object": ("m.weight", 3),
    "null": ("m.weight", None),
    "a list": ("m.weight", ["shape", "bits"]),
    "empty": ("m.weight", {}),
    "an unknown key": ("m.weight", {"shape": [2, 9], "bits": 4, "colour": 1}),
    "no shape": ("m.weight", {"bits": 4}),
    "no bits": ("m.weight", {"bits": 0, "shape": [2, 9]}),
    "nine bits": ("m.weight", {"bits": 9, "shape": [2, 8]}),
    "negative bits": ("m.weight", {"bits": -4, "shape": [2, 9]}),
    "bits are text": ("m.weight", {"bits": "4", "shape": [2, 9]}),
    "bits are a fraction": ("m.weight", {"bits": 4.0, "shape": [2, 9]}),
    "bits are true": ("m.weight", {"bits": True, "shape": [8, 9]}),
    "more weights than bytes": ("m.weight", {"bits": 4, "shape": [2, 10]}),
    "fewer weights than bytes": ("m.weight", {"bits": 4, "shape": [2, 7]}),
    "weights without end": ("m.weight", {"bits": 4, "shape": [HUGE, HUGE]}),
    "channels without end": ("m.weight", {"bits": None, "shape": [HUGE, 1]}),
    "nothing of something endless": ("m.weight", {"bits": 4, "shape": [0, HUGE]}),
    "a negative shape": ("m.weight", {"bits": 4, "shape": [-2, -9]}),
    "a shape of fractions": ("m.weight", {"bits": 4, "shape": [2.0, 9]}),
    "a shape of true": ("m.weight", {"bits": 4, "shape": [True, 18]}),
    "no dimensions": ("m.weight", {"bits": 4, "shape": []}),
    "more dimensions than there are": ("m.weight", {"bits": 4, "shape": [2, 9, *[1] * 100]}),
    "a shape of text": ("m.weight", {"bits": 4, "shape": "29"}),
    "widths that are missing": ("m.weight", {"bits": None, "shape": [2, 9]}),
    "widths of other channels": ("m.mixed", {"bits": None, "shape": [3, 6]}),
    "channels of other sizes": ("m.mixed", {"bits": None, "shape": [2, 10]}),
    "no bytes": ("m.narrow", {"bits": 4, "shape": [1, 12]}),
    "an unknown type": ("m.narrow", {"dtype": "int128"}),
    "a function for a type": ("m.narrow", {"dtype": "load"}),
    "a list for a type": ("m.narrow", {"dtype": ["int64"]}),
    "a narrower type": ("m.narrow", {"dtype": "int8"}),
    "another kind of type": ("m.narrow", {"dtype": "float64"}),
    "an absent tensor": ("m.absent", {"dtype": "int64"}),
    "an absent weight": ("m.absent", {"bits": 4, "shape": [2, 9]}),
    "a scale of text": ("m.table", {"dtype": "float64", "shape": [2, 2], "scale": "os.system"}),
    "a scale of a number": ("m.table", {"dtype": "float64", "shape": [2, 2], "scale": 0.5}),
    "an infinite scale": ("m.table", {"dtype": "float64", "shape": [2, 2], "scale": "inf"}),
    "a scale that is no number": ("m.table", {"dtype": "float64", "shape": [2, 2], "scale": "nan"}),
    "a scale without end": ("m.table", {"dtype": "float64", "shape": [2, 2], "scale": "0x1p99999"}),
    "a scale of integers": ("m.narrow", {"dtype": "int64", "scale": "0x1p-1"}),
    "a scale of weights": ("m.weight", {"shape": [2, 9], "bits": 4, "scale": "0x1p-1"}),
    "indices that are missing": ("m.narrow", {"dtype": "int64", "shape": [2, 3]}),
    "more elements than indices": ("m.table", {"dtype": "float64", "shape": [2, 3]}),
    "fewer elements than indices": ("m.table", {"dtype": "float64", "shape": []}),
    "elements without end": ("m.table", {"dtype": "float64", "shape": [HUGE, HUGE]}),
    "three elements of a byte of four": ("m.table", {"dtype": "float64", "shape": [3]}),
}


@pytest.mark.parametrize("change", cases(BAD_FORMS))
def test_bad_forms_are_refused_by_name(change):
    name, form = change
    with pytest.raises(ArtifactError, match=f"'{name}'") as caught:
        from_stored(STORED, {**FORMS, name: form})
    assert "\n" not in str(caught.value)


BAD_TENSORS = {
    "an index beyond the table": {"m.table.indices": torch.tensor([0xFF], dtype=torch.uint8)},
    "an empty table": {"m.table": torch.zeros(0)},
    "a table of two dimensions": {"m.table": torch.zeros(3, 1)},
    "a table of 257 values": {"m.table": torch.zeros(257), "m.table.indices": torch.zeros(5, dtype=torch.uint8)},
    "indices that are no bytes": {"m.table.indices": torch.zeros(1, dtype=torch.int8)},
    "widths that are no bytes": {"m.mixed.widths": torch.zeros(1)},
    "widths that make other sizes": {"m.mixed.widths": torch.zeros(1, dtype=torch.uint8)},
    "bits behind the last width": {"m.mixed.widths": torch.tensor([0xFF], dtype=torch.uint8)},
    "weights that are not packed": {"m.weight": torch.zeros(2, 9, dtype=torch.int8)},
    "weights that are cut off": {"m.weight": torch.zeros(8, dtype=torch.uint8)},
    "weights of two dimensions": {"m.weight": torch.zeros(3, 3, dtype=torch.uint8)},
}


@pytest.mark.parametrize("change", cases(BAD_TENSORS))
def test_bad_tensors_are_refused_by_name(change):
    (name, *_) = change
    with pytest.raises(ArtifactError, match=f"'{name.removesuffix('.indices').removesuffix('.widths')}'"):
        from_stored({**STORED, **change}, FORMS)


@pytest.mark.parametrize("forms", [None, 3, [], "x"])
def test_forms_that_are_no_object(forms):
    with pytest.raises(ArtifactError, match=r"graph\.json"):
        from_stored(STORED, forms)
