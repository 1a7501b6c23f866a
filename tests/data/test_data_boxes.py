"""Labelled boxes in COCO's and in Pascal VOC's format, and hostile ones."""

import json

import pytest
import torch
from task_data import coco, voc_xml, write_coco, write_image, write_list, write_voc

from snnconvert.data.boxes import LabelRange
from snnconvert.data.detection_sets import open_boxes
from snnconvert.data.division import Wishes
from snnconvert.data.pixels import image_to_tensor
from snnconvert.errors import InputError

NAMES = ("background", "person", "dog", "airplane")


def opened(root, annotations=None, names=NAMES, labels=None, **wishes):
    return open_boxes(
        root,
        image_to_tensor,
        labels=labels or LabelRange(1, 4),
        names=names,
        annotations=annotations,
        wishes=Wishes(**wishes),
    )


def read(sets):
    return [sets.evaluation[index] for index in range(len(sets.evaluation))]


def message(*args, **kwargs):
    with pytest.raises(InputError) as error:
        read(opened(*args, **{"calibration_images": 1, **kwargs}))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    return str(error.value)


def test_coco(tmp_path):
    sets = opened(write_coco(tmp_path, 6), calibration_images=2)
    assert (len(sets.calibration), len(sets.evaluation), sets.labelled) == (2, 4, True)
    assert sets.calibration[0].shape == (3, 30, 40)
    image, target = sets.evaluation[0]
    assert (image.shape, image.dtype) == ((3, 30, 40), torch.float32)
    assert target["boxes"].tolist() == [[2, 3, 22, 18], [5, 3, 25, 19]]
    assert target["labels"].dtype == torch.int64
    assert target["iscrowd"].tolist() == [0, 0]


@pytest.mark.parametrize("images", ["images", ".", "images/val2017", "annotations"])
def test_where_images_are(tmp_path, images):
    assert len(read(opened(write_coco(tmp_path, 4, images=images), calibration_images=1))) == 3


def test_several_annotation_files(tmp_path):
    write_coco(tmp_path, 3)
    write_coco(tmp_path, 5, "annotations/instances_train2017.json", "train2017")
    (tmp_path / "annotations/captions_val2017.json").write_text("{}")
    sets = opened(tmp_path)
    assert (len(sets.calibration), len(sets.evaluation)) == (5, 3)
    chosen = opened(tmp_path, tmp_path / "annotations/instances_train2017.json", calibration_images=1)
    assert (len(chosen.calibration), len(chosen.evaluation)) == (1, 4)
    write_coco(tmp_path, 3, "annotations/instances_val2014.json", "val2014")
    assert "--annotations FILE" in message(tmp_path)


def test_parts_in_folders(tmp_path):
    write_coco(tmp_path / "val", 3, "_annotations.coco.json", ".")
    write_coco(tmp_path / "train", 4, "_annotations.coco.json", ".")
    sets = opened(tmp_path)
    assert (len(sets.calibration), len(read(sets))) == (4, 3)


def test_an_image_cannot_be_on_both_sides(tmp_path):
    write_coco(tmp_path, 3, images="images")
    write_coco(tmp_path, 5, "annotations/instances_train2017.json", "images")
    assert "can't calibrate and evaluate" in message(tmp_path)


def test_images_without_boxes_count_and_flat_boxes_do_not(tmp_path):
    data = coco(3)
    data["annotations"] = [{**data["annotations"][0], "bbox": [1, 1, 0, 5]}, {**data["annotations"][1], "iscrowd": 1}]
    sets = opened(write_coco(tmp_path, 3, data=data), tmp_path / "annotations/instances_val2017.json", seed=1)
    targets = [target for _, target in read(sets)]
    assert len(targets) == 2
    assert all(target["boxes"].shape[1] == 4 for target in targets)
    assert sum(len(target["labels"]) for target in targets) <= 1


def with_first(key, **changes):
    data = coco(3)
    data[key][0] = {name: value for name, value in {**data[key][0], **changes}.items() if value != "gone"}
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2], "a list"),
        ({"images": 3}, "'images'"),
        ({"images": [], "annotations": []}, "no images"),
        ({"images": [1], "annotations": []}, "'images'"),
        (coco(3, annotations="gone"), "'annotations'"),
        (with_first("images", id="gone"), "'id'"),
        (with_first("images", id=1), "same id"),
        (with_first("images", file_name=7), "file_name"),
        (with_first("images", file_name="../000.png"), "outside of its folder"),
        (with_first("images", file_name="/etc/passwd"), "outside of its folder"),
        (with_first("images", file_name="..\\000.png"), "outside of its folder"),
        (with_first("images", file_name="a\0b"), "file_name"),
        (with_first("images", file_name="missing.png"), "missing.png"),
        (with_first("images", width=-4), "positive"),
        (with_first("images", width="gone"), "positive"),
        (with_first("annotations", image_id=99), "99"),
        (with_first("annotations", image_id=True), "'image_id'"),
        (with_first("annotations", category_id=4), "classes 1 to 3"),
        (with_first("annotations", category_id=0), "classes 1 to 3"),
        (with_first("annotations", category_id=-1), "classes 1 to 3"),
        (with_first("annotations", category_id=1.5), "'category_id'"),
        (with_first("annotations", bbox="gone"), "4 numbers"),
        (with_first("annotations", bbox=[1, 2, 3]), "4 numbers"),
        (with_first("annotations", bbox=[1, 2, 3, None]), "4 numbers"),
        (with_first("annotations", bbox=[5, 5, -3, 4]), "ends before"),
        (with_first("annotations", bbox=[5, 5, float("nan"), 4]), "finite"),
        (with_first("annotations", bbox=[5, 5, 10**400, 4]), "finite"),
        (with_first("annotations", bbox=[30, 5, 20, 4]), "outside of its image"),
    ],
)
def test_hostile_coco(tmp_path, data, words):
    root = write_coco(tmp_path, 3, data=data)
    found = message(root, root / "annotations/instances_val2017.json")
    assert words in found
    assert "instances_val2017.json" in found


def test_last_image_is_missing(tmp_path):
    root = write_coco(tmp_path, 4)
    (root / "val2017/003.png").unlink()
    assert "003.png" in message(root)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"images": [' * 5_000, b"\xff\xfe\x00"])
def test_files_that_are_no_json(tmp_path, text):
    root = write_coco(tmp_path, 2)
    path = root / "annotations/instances_val2017.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "no JSON" in message(root)


def test_annotations_of_another_image(tmp_path):
    root = write_coco(tmp_path, 3)
    for number in range(3):
        write_image(root / f"val2017/{number:03}.png", width=60)
    assert "60 x 30" in message(root)


def test_missing_folders_and_files(tmp_path):
    assert "no folder" in message(tmp_path / "none")
    assert "expected COCO" in message(tmp_path)
    assert "no annotation file" in message(tmp_path, tmp_path / "none.json")


def test_images_alone(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", seed=number)
    sets = opened(tmp_path, calibration_images=1)
    assert not sets.labelled
    assert sets.evaluation[0].shape == (3, 30, 40)


def test_pascal_voc(tmp_path):
    root = write_voc(tmp_path, 5)
    sets = opened(root, calibration_images=1)
    assert len(sets.evaluation) == 4
    image, target = sets.evaluation[0]
    assert image.shape == (3, 30, 40)
    assert target["boxes"].tolist() == [[2, 3, 22, 20]]  # from 1-based corners, the last pixel inside
    assert target["labels"].tolist() == [2]
    write_list(root / "ImageSets/Main/val.txt", ["000  1", "001 -1", "002"])
    write_list(root / "ImageSets/Main/train.txt", ["003"])
    sets = opened(root)
    assert (len(sets.calibration), len(sets.evaluation)) == (1, 3)


def test_names_of_classes(tmp_path):
    root = write_voc(tmp_path, 2, voc_xml("aeroplane", difficult=1))
    ((_, target),) = read(opened(root))
    assert target["labels"].tolist() == [3]
    assert target["iscrowd"].tolist() == [1]
    write_list(root / "classes.txt", ["aeroplane", "cat", "dog"])
    ((_, target),) = read(opened(root))
    assert target["labels"].tolist() == [1]
    ((_, target),) = read(opened(root, labels=LabelRange(0, 3)))
    assert target["labels"].tolist() == [0]
    write_list(root / "classes.txt", ["aeroplane", "cat"])
    assert "lists 2 classes" in message(root)
    (root / "classes.txt").unlink()
    assert "classes.txt" in message(root, names=())


ENTITIES = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (voc_xml(head=ENTITIES), "DOCTYPE"),
        (voc_xml("&b;", head=ENTITIES), "DOCTYPE"),
        (voc_xml(head='<!DOCTYPE a SYSTEM "file:///etc/passwd">'), "DOCTYPE"),
        (voc_xml("&undefined;"), "no XML"),
        ("", "no XML"),
        ("<annotation>", "no XML"),
        ("<a>" * 200_000, "no XML"),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "no XML"),
        ("<html></html>", "<html>"),
        (voc_xml("unicorn"), "unicorn"),
        (voc_xml(corners=(5, 5, "x", 9)), "xmax"),
        (voc_xml(corners=(9, 5, 4, 9)), "ends before"),
        (voc_xml(corners=(5, 5, "inf", 9)), "finite"),
        (voc_xml(corners=(5, 5, 90, 9)), "outside of its image"),
        (voc_xml(size=(41, 30)), "40 x 30"),
        (voc_xml(size=("", 30)), "width"),
        (voc_xml().replace("bndbox", "box"), "without <bndbox>"),
        (" " * 2**20 + voc_xml(), "1 MiB"),
    ],
)
def test_hostile_xml(tmp_path, xml, words):
    assert words in message(write_voc(tmp_path, 2, xml))


def test_doctype_in_another_encoding(tmp_path):
    root = write_voc(tmp_path, 2)
    for path in (root / "Annotations").iterdir():
        path.write_bytes(voc_xml(head='<?xml version="1.0" encoding="utf-16"?>' + ENTITIES).encode("utf-16"))
    assert "DOCTYPE" in message(root)


def test_a_missing_annotation(tmp_path):
    root = write_voc(tmp_path, 2)
    write_list(root / "ImageSets/Main/val.txt", ["000", "001"])
    (root / "Annotations/001.xml").unlink()
    assert "001.xml" in message(root)
    (root / "JPEGImages/001.png").unlink()
    assert "'001'" in message(root)


def test_coco_written_and_read_back_is_torchvisions(tmp_path):
    """The same boxes as torchvision's own reader gives, which goes through pycocotools."""
    from torchvision.datasets import CocoDetection

    root = write_coco(tmp_path, 4)
    file = root / "annotations/instances_val2017.json"
    reference = CocoDetection(root / "val2017", str(file))
    expected = {
        tuple(sorted((*item["bbox"][:2], item["category_id"]) for item in annotations)) for _, annotations in reference
    }
    sets = opened(root, calibration_images=1)
    found = {
        tuple(
            sorted(
                (*box[:2].tolist(), int(label)) for box, label in zip(target["boxes"], target["labels"], strict=True)
            )
        )
        for _, target in read(sets)
    }
    assert found <= expected
    assert json.loads(file.read_text())["images"]
