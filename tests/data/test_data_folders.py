import pytest
import torch
from timm.data import ImageNetInfo

from snnconvert.data.classes import class_indices
from snnconvert.data.images import open_images
from snnconvert.errors import InputError


def items(dataset):
    return [dataset[index] for index in range(len(dataset))]


def pixels(dataset):
    return {image.numpy().tobytes() for image, _ in items(dataset)}


def message(*args, **kwargs):
    with pytest.raises(InputError) as error:
        open_images(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("held_out", ["val", "validation", "test"])
def test_train_calibrates_and_val_evaluates(make_folder, preprocessing, held_out):
    root = make_folder({"train/a": 5, "train/b": 5, f"{held_out}/a": 3, f"{held_out}/b": 4})
    sets = open_images(root, preprocessing, num_classes=2, calibration_images=6)
    assert (len(sets.calibration), len(sets.evaluation), sets.labelled) == (6, 7, True)
    assert [label for _, label in items(sets.evaluation)] == [0, 0, 0, 1, 1, 1, 1]
    assert not pixels(sets.calibration) & pixels(sets.evaluation)
    image, label = sets.calibration[0]
    assert (image.shape, image.dtype, type(label)) == ((3, 16, 16), torch.float32, int)
    for part in (str(root / held_out), str(root / "train"), "7 of the 7", "6 of the 10"):
        assert part in sets.description


def test_few_training_images_are_all_used(make_folder, preprocessing):
    root = make_folder({"train/a": 2, "val/a": 3})
    sets = open_images(root, preprocessing, num_classes=1)
    assert (len(sets.calibration), len(sets.evaluation)) == (2, 3)


def test_part_of_the_evaluation_images(make_folder, preprocessing):
    root = make_folder({"train/a": 1, "val/a": 9})
    sets = open_images(root, preprocessing, num_classes=1, evaluation_images=4, seed=3)
    again = open_images(root, preprocessing, num_classes=1, evaluation_images=4, seed=3)
    assert len(sets.evaluation) == len(pixels(sets.evaluation)) == 4
    assert pixels(sets.evaluation) == pixels(again.evaluation)


@pytest.mark.parametrize("prefix", ["", "val/"])
def test_one_set_of_images_is_split(make_folder, preprocessing, prefix):
    root = make_folder({f"{prefix}a": 10, f"{prefix}b": 10})
    sets = open_images(root, preprocessing, num_classes=2, calibration_images=6, evaluation_images=9)
    assert (len(sets.calibration), len(sets.evaluation)) == (6, 9)
    assert not pixels(sets.calibration) & pixels(sets.evaluation)
    assert "seed 0" in sets.description


def test_too_few_images_are_halved(make_folder, preprocessing):
    sets = open_images(make_folder({"a": 3, "b": 4}), preprocessing, num_classes=2)
    assert (len(sets.calibration), len(sets.evaluation)) == (3, 4)
    assert "halved" in sets.description


def test_items_do_not_depend_on_the_order_of_access(make_folder, preprocessing):
    sets = open_images(make_folder({"a": 8}), preprocessing, num_classes=1)
    backwards = [sets.evaluation[index][0] for index in reversed(range(4))][::-1]
    assert all(torch.equal(a, b) for (a, _), b in zip(items(sets.evaluation), backwards, strict=True))


def test_what_is_ignored(make_folder, preprocessing):
    root = make_folder({"a": 2, ".hidden": 2, "a/.cache": 2, "a/deep": 1})
    (root / "a" / "notes.txt").write_text("x")
    (root / "a" / ".DS_Store.png").write_text("x")
    (root / "README.md").write_text("x")
    sets = open_images(root, preprocessing, num_classes=1)
    assert len(sets.calibration) + len(sets.evaluation) == 3


@pytest.mark.parametrize("extension", [".jpg", ".JPEG", ".png", ".bmp", ".webp", ".gif", ".tif", ".ppm"])
def test_image_formats(make_folder, preprocessing, extension):
    sets = open_images(make_folder({"a": 2}, extension), preprocessing, num_classes=1)
    assert sets.evaluation[0][0].shape == (3, 16, 16)


def test_integer_folders_are_indices(make_folder, preprocessing):
    sets = open_images(make_folder({"train/3": 1, "val/10": 1, "val/007": 1}), preprocessing, num_classes=11)
    assert [label for _, label in items(sets.evaluation)] == [7, 10]
    assert sets.calibration[0][1] == 3


def test_synsets_are_looked_up(make_folder, preprocessing):
    names = ImageNetInfo().label_names()
    root = make_folder({f"val/{names[5]}": 2, f"val/{names[999]}": 2})
    sets = open_images(root, preprocessing, num_classes=1000, calibration_images=1)
    assert {label for _, label in items(sets.evaluation)} <= {5, 999}
    assert class_indices([names[5], names[999]], 1000, root) == {names[5]: 5, names[999]: 999}


def test_synsets_of_another_network_count_alphabetically(tmp_path):
    assert class_indices(["n01440764", "n02102040"], 2, tmp_path) == {"n01440764": 0, "n02102040": 1}


def test_train_and_val_share_one_order(make_folder, preprocessing):
    root = make_folder({"train/a": 1, "train/b": 1, "train/c": 1, "val/b": 1})
    assert open_images(root, preprocessing, num_classes=3).evaluation[0][1] == 1


def test_alphabetical_order_needs_every_class(make_folder, preprocessing):
    text = message(make_folder({"a": 1, "b": 1}), preprocessing, num_classes=3)
    assert "2 class folders" in text
    assert "3 classes" in text


def test_integer_folder_out_of_range(make_folder, preprocessing):
    text = message(make_folder({"0": 1, "10": 1}), preprocessing, num_classes=10)
    assert "10 is out of range" in text
    assert "0 to 9" in text


def test_unknown_synset(make_folder, preprocessing):
    assert "n99999999" in message(make_folder({"n99999999": 1}), preprocessing, num_classes=1000)


@pytest.mark.parametrize("folder", [".", "val"])
def test_flat_folder(make_folder, preprocessing, folder):
    text = message(make_folder({folder: 2}), preprocessing, num_classes=2)
    assert "has no class folders" in text
    assert "DIR/<class>/<image>" in text


def test_empty_folder(tmp_path, preprocessing):
    assert "has no class folders" in message(tmp_path, preprocessing, num_classes=2)


@pytest.mark.parametrize("empty", ["val", "train"])
def test_folders_without_images(make_folder, preprocessing, empty):
    root = make_folder({"train/a": 2, "val/a": 2, f"{empty}/a": 0})
    for file in (root / empty / "a").iterdir():
        file.unlink()
    assert f"{root / empty} holds no images" in message(root, preprocessing, num_classes=1)


def test_single_image(make_folder, preprocessing):
    assert "holds 1 image" in message(make_folder({"a": 1}), preprocessing, num_classes=1)


def test_training_images_alone(make_folder, preprocessing):
    root = make_folder({"train/a": 4})
    assert "no val/" in message(root, preprocessing, num_classes=1)
    assert len(open_images(root / "train", preprocessing, num_classes=1).evaluation) == 2


def test_a_class_may_be_called_train(make_folder, preprocessing):
    root = make_folder({"bus": 3, "train": 3})
    sets = open_images(root, preprocessing, num_classes=2)
    assert {label for _, label in [*items(sets.evaluation), *items(sets.calibration)]} == {0, 1}


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image(make_folder, preprocessing, content):
    root = make_folder({"a": 2}, ".jpg")
    for file in (root / "a").iterdir():
        file.write_bytes(file.read_bytes()[:350] if content is None else content)
    sets = open_images(root, preprocessing, num_classes=1)
    with pytest.raises(InputError) as error:
        sets.evaluation[0]
    assert "\n" not in str(error.value)
    assert str(root / "a" / "image00") in str(error.value)


def test_file_that_vanished(make_folder, preprocessing):
    root = make_folder({"a": 2})
    sets = open_images(root, preprocessing, num_classes=1)
    for file in (root / "a").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="can't be read"):
        sets.evaluation[0]


def test_missing_path(tmp_path, preprocessing):
    assert "there is no" in message(tmp_path / "none", preprocessing, num_classes=1)


def test_file_of_another_kind(tmp_path, preprocessing):
    (tmp_path / "images.zip").write_bytes(b"x")
    assert "neither" in message(tmp_path / "images.zip", preprocessing, num_classes=1)


@pytest.mark.parametrize("argument", [{"calibration_images": 0}, {"evaluation_images": 0}, {"seed": -1}])
def test_numbers_out_of_range(make_folder, preprocessing, argument):
    assert next(iter(argument)) in message(make_folder({"a": 2}), preprocessing, num_classes=1, **argument)
