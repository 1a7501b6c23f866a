import numpy as np
import pytest
import torch
from PIL import Image
from task_data import write_image, write_list, write_mask, write_masked, write_voc_masks

from snnconvert.data.division import Wishes
from snnconvert.data.masks import open_masks, read_mask
from snnconvert.errors import InputError


def opened(root, preprocessing, classes=4, void=255, **wishes):
    return open_masks(root, preprocessing, num_classes=classes, void=void, wishes=Wishes(**wishes))


def images_of(dataset, labelled):
    items = [dataset[index] for index in range(len(dataset))]
    return {(item[0] if labelled else item).numpy().tobytes() for item in items}


def read(sets):
    return [sets.evaluation[index] for index in range(len(sets.evaluation))]


def message(*args, **kwargs):
    with pytest.raises(InputError) as error:
        read(opened(*args, **kwargs))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_images_and_masks_are_split(tmp_path, preprocessing):
    root = write_masked(tmp_path, 9)
    sets = opened(root, preprocessing, calibration_images=4)
    assert (len(sets.calibration), len(sets.evaluation), sets.labelled) == (4, 5, True)
    assert not images_of(sets.calibration, False) & images_of(sets.evaluation, True)
    again = opened(root, preprocessing, calibration_images=4)
    assert images_of(again.calibration, False) == images_of(sets.calibration, False)
    other = opened(root, preprocessing, calibration_images=4, seed=5)
    assert images_of(other.calibration, False) != images_of(sets.calibration, False)
    image, mask = sets.evaluation[0]
    assert (image.shape, image.dtype) == ((3, 16, 16), torch.float32)
    assert (mask.shape, mask.dtype) == ((30, 40), torch.int64)
    assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 255}


@pytest.mark.parametrize("palette", [False, True])
def test_masks_are_indices(tmp_path, palette):
    path = write_mask(tmp_path / "mask.png", palette=palette, seed=2)
    with Image.open(path) as image:
        assert image.mode == ("P" if palette else "L")
        assert torch.equal(read_mask(path), torch.from_numpy(np.array(image).astype(np.int64)))


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("held_out", ["val", "validation", "test"])
def test_train_calibrates_and_val_evaluates(tmp_path, preprocessing, held_out, inner):
    for part, count, first in ((held_out, 3, 0), ("train", 5, 10)):
        places = (f"{part}/images", f"{part}/masks") if inner else (f"images/{part}", f"masks/{part}")
        write_masked(tmp_path, count, *places, first=first)
    sets = opened(tmp_path, preprocessing)
    assert (len(sets.calibration), len(sets.evaluation)) == (5, 3)
    assert "3 of the 3" in sets.description


def test_pascal_voc(tmp_path, preprocessing):
    root = write_voc_masks(tmp_path, 6)
    assert len(opened(root, preprocessing, calibration_images=2).evaluation) == 4
    lists = root / "ImageSets/Segmentation"
    write_list(lists / "trainval.txt", ["000", "001", "002", "003"])
    assert len(opened(root, preprocessing, calibration_images=1).evaluation) == 3
    write_list(lists / "train.txt", ["000"])
    write_list(lists / "val.txt", ["001", "002"])
    sets = opened(root, preprocessing)
    assert (len(sets.calibration), len(sets.evaluation)) == (1, 2)
    write_list(lists / "train.txt", ["000", "002"])
    assert "can't calibrate and evaluate" in message(root, preprocessing)
    write_list(lists / "train.txt", ["007"])
    assert "'007'" in message(root, preprocessing)
    write_list(lists / "train.txt", ["../../etc/passwd"])
    assert "no such image" in message(root, preprocessing)


def test_images_alone_have_no_masks(tmp_path, preprocessing):
    for number in range(4):
        write_image(tmp_path / f"{number}.png", seed=number)
    sets = opened(tmp_path, preprocessing, calibration_images=1)
    assert not sets.labelled
    assert sets.evaluation[0].shape == (3, 16, 16)
    assert len(sets.evaluation) == 3


def test_layouts_that_cannot_be_used(tmp_path, preprocessing):
    assert "no folder" in message(tmp_path / "none", preprocessing)
    assert "expected images/" in message(tmp_path, preprocessing)
    write_masked(tmp_path, 1)
    assert "1 image" in message(tmp_path, preprocessing)
    extra = write_image(tmp_path / "images/extra.png")
    assert "extra.png has no mask" in message(tmp_path, preprocessing)
    extra.unlink()
    write_mask(tmp_path / "masks/lonely.png")
    assert "lonely.png has no image" in message(tmp_path, preprocessing)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: write_mask(path, classes=30, seed=1), "network has the classes 0 to 3, and void is 255"),
        (lambda path: write_mask(path, width=20), "20 x 30"),
        (lambda path: Image.new("RGB", (40, 30)).save(path), "mode RGB"),
        (lambda path: path.write_bytes(b"no image"), "can't be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "can't be read"),
    ],
)
def test_masks_that_cannot_be_used(tmp_path, preprocessing, spoil, words):
    root = write_masked(tmp_path, 2)
    for path in (root / "masks").iterdir():
        spoil(path)
    found = message(root, preprocessing)
    assert words in found
    assert "masks/00" in found


def test_void_is_settable(tmp_path, preprocessing):
    root = write_masked(tmp_path, 4)
    assert "void is 0" in message(root, preprocessing, void=0)
    assert len(opened(root, preprocessing, classes=256, void=0).evaluation) == 2
