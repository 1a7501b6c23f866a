"""Tiny data sets of boxes and masks, written to a folder."""

import json

import numpy as np
from PIL import Image

PALETTE = [value for index in range(256) for value in (index, 255 - index, index // 2)]


def write_image(path, width=40, height=30, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path, width=40, height=30, classes=4, seed=0, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, classes + 1, (-(-height // 8), -(-width // 8)))
    pixels = np.kron(blocks, np.ones((8, 8), np.int64))[:height, :width]
    image = Image.fromarray(np.where(pixels == classes, 255, pixels).astype(np.uint8))
    if palette:
        image.putpalette(PALETTE)
    image.save(path)
    return path


def write_masked(root, count=6, images="images", masks="masks", first=0, **settings):
    for number in range(first, first + count):
        write_image(root / images / f"{number:03}.png", seed=number)
        write_mask(root / masks / f"{number:03}.png", seed=number, **settings)
    return root


def write_voc_masks(root, count=6):
    write_masked(root, count, "JPEGImages", "SegmentationClass", palette=True)
    for number in range(count, count + 3):  # images that have no mask, as most of VOC
        write_image(root / "JPEGImages" / f"{number:03}.png", seed=number)
    return root


def write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return path


def coco(count=6, boxes=2, **changes):
    """COCO's annotations of 40 x 30 images 000.png, 001.png, ..."""
    annotations = [
        {
            "id": 10 * number + index,
            "image_id": number,
            "category_id": 1 + (number + index) % 3,
            "bbox": [2 + 3 * index, 3, 20, 15 + index],
            "area": 300,
            "iscrowd": 0,
        }
        for number in range(count)
        for index in range(boxes)
    ]
    images = [{"id": n, "file_name": f"{n:03}.png", "width": 40, "height": 30} for n in range(count)]
    return {"images": images, "annotations": annotations, "categories": [], **changes}


def write_coco(root, count=6, name="annotations/instances_val2017.json", images="val2017", data=None):
    for number in range(count):
        write_image(root / images / f"{number:03}.png", seed=number)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco(count) if data is None else data), encoding="utf-8")
    return root


def voc_xml(name="dog", corners=(3, 4, 22, 20), size=(40, 30), difficult=0, head=""):
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return (
        f"{head}<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object></annotation>"
    )


def write_voc(root, count=6, xml=None):
    for number in range(count):
        write_image(root / "JPEGImages" / f"{number:03}.png", seed=number)
        path = root / "Annotations" / f"{number:03}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(voc_xml() if xml is None else xml, encoding="utf-8")
    return root
