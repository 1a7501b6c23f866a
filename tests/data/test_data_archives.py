import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snnconvert.data.arrays import ArrayImages
from snnconvert.data.images import open_images
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.errors import InputError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
LARGE = RNG.integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "images.npz", **arrays)
        return tmp_path / "images.npz"

    return write


def everything(sets):
    """Items of both sets, ordered by their pixels."""
    both = [d[i] for d in (sets.calibration, sets.evaluation) for i in range(len(d))]
    return sorted(((image, label) for image, label in both), key=lambda item: item[0].numpy().tobytes())


def assert_same_images(sets, expected):
    found = [image for image, _ in everything(sets)]
    expected = sorted(expected, key=lambda image: image.numpy().tobytes())
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def message(path, preprocessing):
    with pytest.raises(InputError) as error:
        open_images(path, preprocessing, num_classes=3)
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_images_of_the_networks_size_are_not_cropped(save, preprocessing):
    sets = open_images(save(x=COLOUR, y=LABELS), preprocessing, num_classes=3)
    assert (len(sets.calibration), len(sets.evaluation), sets.labelled) == (3, 3, True)
    assert_same_images(sets, [preprocessing.without_resize(Image.fromarray(image)) for image in COLOUR])
    by_pixels = {
        preprocessing.without_resize(Image.fromarray(i)).numpy().tobytes(): n
        for i, n in zip(COLOUR, LABELS, strict=True)
    }
    assert all(by_pixels[image.numpy().tobytes()] == label for image, label in everything(sets))


def test_images_of_another_size_are_treated_like_photographs(save, preprocessing):
    sets = open_images(save(x=LARGE, y=LABELS), preprocessing, num_classes=3)
    assert_same_images(sets, [preprocessing(Image.fromarray(image)) for image in LARGE])


@pytest.mark.parametrize("arrays", [COLOUR.transpose(0, 3, 1, 2), (COLOUR / 255), (COLOUR / 255).astype(np.float32)])
def test_layouts_and_types_mean_the_same(save, preprocessing, arrays):
    sets = open_images(save(x=arrays), preprocessing, num_classes=3)
    assert_same_images(sets, [preprocessing.without_resize(Image.fromarray(image)) for image in COLOUR])


@pytest.mark.parametrize("arrays", [GREY, GREY[..., None], GREY[:, None], GREY / 255])
def test_grey_images_for_colour_and_grey_networks(save, preprocessing, arrays):
    sets = open_images(save(x=arrays), preprocessing, num_classes=3)
    assert_same_images(sets, [preprocessing.without_resize(Image.fromarray(image)) for image in GREY])
    grey = Preprocessing((1, 16, 16), (0.5,), (0.5,))
    sets = open_images(save(x=arrays), grey, num_classes=3)
    assert_same_images(sets, [grey.without_resize(Image.fromarray(image)) for image in GREY])


def test_floating_point_images_of_another_size(save, preprocessing):
    sets = open_images(save(x=LARGE / 255), preprocessing, num_classes=3)
    assert_same_images(sets, [preprocessing(Image.fromarray(image)) for image in LARGE])


def test_without_labels(save, preprocessing):
    sets = open_images(save(x=COLOUR), preprocessing, num_classes=3)
    assert not sets.labelled
    assert "unlabelled" in sets.description
    assert {label for _, label in everything(sets)} == {-1}


@pytest.mark.parametrize("labels", [LABELS.astype(np.uint8), LABELS[:, None], LABELS.astype(np.int32)])
def test_types_and_shapes_of_labels(save, preprocessing, labels):
    sets = open_images(save(x=COLOUR, y=labels), preprocessing, num_classes=3)
    assert sorted(label for _, label in everything(sets)) == sorted(LABELS)


def test_other_arrays_are_ignored(save, preprocessing):
    path = save(x=COLOUR, y=LABELS, names=np.array(["a", "b", "c"]), version=np.array(2), mean=np.ones(3))
    assert open_images(path, preprocessing, num_classes=3).labelled


def test_compressed(tmp_path, preprocessing):
    np.savez_compressed(tmp_path / "i.npz", x=COLOUR)
    assert len(open_images(tmp_path / "i.npz", preprocessing, num_classes=3).evaluation) == 3


BROKEN = COLOUR.astype(np.float32) / 255


def with_value(value):
    images = BROKEN.copy()
    images[4, 3, 2, 1] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": with_value(np.nan)}, ["image 4 of 'x'", "NaN"]),
        ({"x": with_value(-np.inf)}, ["image 4 of 'x'"]),
        ({"x": with_value(1.5)}, ["'x'", "1.5", "0..1"]),
        ({"x": with_value(-0.5)}, ["'x'", "-0.5", "0..1"]),
        ({"x": BROKEN * 255}, ["divide 0..255 by 255"]),
        ({"x": COLOUR.astype(np.int64)}, ["'x' is int64", "uint8"]),
        ({"x": COLOUR > 9}, ["'x' is bool"]),
        ({"x": COLOUR, "y": LABELS[:5]}, ["5 labels", "6 images"]),
        ({"x": COLOUR, "y": LABELS + 1}, ["label 3 of image 2", "0 to 2"]),
        ({"x": COLOUR, "y": LABELS - 1}, ["label -1 of image 0"]),
        ({"x": COLOUR, "y": LABELS / 1.0}, ["'y' is float64", "integers"]),
        ({"x": COLOUR, "y": LABELS, "z": LABELS}, ["more than one", "(y, z)"]),
        ({"x": COLOUR, "z": COLOUR}, ["more than one array", "x [6, 16, 16, 3]"]),
        ({"y": LABELS}, ["no array of images", "y [6]"]),
        ({}, ["no array of images", "no arrays"]),
        ({"x": COLOUR[:0]}, ["'x'", "empty"]),
        ({"x": COLOUR[:, :0]}, ["'x'", "empty"]),
        ({"x": COLOUR[:1]}, ["holds 1 image"]),
        ({"x": np.zeros((5, 3, 8, 3), np.uint8)}, ["can't be told", "[5, 3, 8, 3]"]),
        ({"x": np.zeros((5, 8, 8, 4), np.uint8)}, ["neither 1 nor 3 channels"]),
        ({"x": np.array([{"a": 1}], dtype=object)}, ["'x'", "pickled", "not loaded"]),
    ],
)
def test_what_is_refused(save, preprocessing, arrays, words):
    text = message(save(**arrays), preprocessing)
    for word in words:
        assert word in text


@pytest.mark.parametrize("kept", [0, 3, 100, 2000, -30])
def test_truncated(save, preprocessing, kept):
    path = save(x=COLOUR, y=LABELS)
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged" in message(path, preprocessing)


def test_flipped_byte(tmp_path, preprocessing):
    path = tmp_path / "i.npz"
    np.savez_compressed(path, x=COLOUR)
    content = bytearray(path.read_bytes())
    content[1500] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in message(path, preprocessing)


@pytest.mark.parametrize("content", [b"no archive", b"\x80\x04K\x01."])
def test_no_archive(tmp_path, preprocessing, content):
    (tmp_path / "i.npz").write_bytes(content)
    assert "damaged or no .npz" in message(tmp_path / "i.npz", preprocessing)


def test_single_array(tmp_path, preprocessing):
    with (tmp_path / "i.npz").open("wb") as file:
        np.save(file, COLOUR)
    assert "single array" in message(tmp_path / "i.npz", preprocessing)


@given(order=st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_items_do_not_depend_on_the_order_of_access(order):
    pre = Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    dataset = ArrayImages(COLOUR, LABELS, range(6), pre)
    for index in order:
        image, label = dataset[index]
        assert torch.equal(image, pre.without_resize(Image.fromarray(COLOUR[index])))
        assert label == LABELS[index]
