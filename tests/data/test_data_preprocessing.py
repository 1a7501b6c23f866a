import json
import pickle

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch.utils.data import DataLoader

from snnconvert.data.arrays import ArrayImages
from snnconvert.data.pixels import array_to_tensor, match_channels, read_image, to_channels
from snnconvert.data.preprocessing import Preprocessing, timm_preprocessing
from snnconvert.errors import InputError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "mobilenetv3_large_100", "vit_base_patch16_clip_224.openai"])
def test_same_as_timm(name):
    model = timm.create_model(name.partition(".")[0], pretrained_cfg=name.partition(".")[2] or None)
    image = Image.fromarray(noise(230, 301, 3))
    expected = create_transform(**resolve_model_data_config(model), is_training=False)(image)
    assert torch.equal(timm_preprocessing(model.pretrained_cfg)(image), expected)


def test_image_size_replaces_height_and_width():
    cfg = timm.create_model("resnet18").pretrained_cfg
    assert timm_preprocessing(cfg, image_size=96).input_size == (3, 96, 96)
    assert timm_preprocessing(cfg, image_size=96).mean == timm_preprocessing(cfg).mean


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "LA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_mode(mode, channels):
    pre = Preprocessing((channels, 8, 8), (0.5,) * channels, (0.5,) * channels)
    tensor = pre(Image.fromarray(noise(12, 10, 3)).convert("L").convert(mode))
    assert tensor.shape == (channels, 8, 8)
    assert tensor.dtype == torch.float32


def test_grey_becomes_equal_colours():
    image = to_channels(Image.fromarray(noise(4, 4)), 3)
    planes = np.array(image)
    assert (planes == planes[:, :, :1]).all()


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.array([[0, 257, 65535, 32768]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = to_channels(read_image(tmp_path / "a.png"), 1)
    assert np.array(image).tolist() == [[0, 1, 255, 128]]


def test_other_numbers_of_channels():
    with pytest.raises(InputError, match="takes 4"):
        to_channels(Image.new("L", (2, 2)), 4)
    with pytest.raises(InputError, match="takes 2"):
        match_channels(torch.zeros(1, 2, 2), 2)


def test_without_resize_keeps_every_pixel():
    pixels = noise(8, 8, 3)
    pre = Preprocessing((3, 8, 8), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), crop_pct=0.5)
    expected = (pixels.transpose(2, 0, 1) / 255 - np.array(pre.mean)[:, None, None]) / np.array(pre.std)[:, None, None]
    torch.testing.assert_close(
        pre.without_resize(Image.fromarray(pixels)).double(), torch.tensor(expected), atol=1e-6, rtol=0
    )


def test_grey_of_floating_point_colours():
    grey = match_channels(array_to_tensor(np.full((2, 2, 3), 0.25, np.float32)), 1)
    torch.testing.assert_close(grey, torch.full((1, 2, 2), 0.25))


def test_describe_is_json(preprocessing):
    assert json.loads(json.dumps(preprocessing.describe())) == preprocessing.describe()
    assert preprocessing.describe()["input_size"] == [3, 16, 16]


def test_pickle_before_and_after_use(preprocessing):
    image = Image.fromarray(noise(20, 20, 3))
    fresh = pickle.loads(pickle.dumps(preprocessing))
    expected = preprocessing(image)
    used = pickle.loads(pickle.dumps(preprocessing))
    assert fresh == used == preprocessing
    assert torch.equal(fresh(image), expected)
    assert torch.equal(used(image), expected)


def test_data_loader_workers(preprocessing):
    dataset = ArrayImages(noise(6, 20, 20, 3), None, range(6), preprocessing)
    loader = DataLoader(dataset, batch_size=3, num_workers=1, multiprocessing_context="spawn")
    images = torch.cat([batch for batch, _ in loader])
    assert torch.equal(images, torch.stack([dataset[index][0] for index in range(6)]))
