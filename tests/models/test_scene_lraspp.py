"""LR-ASPP for the scenes: torchvision's class and blocks, other strides; and how masks of dict outputs are judged."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_small
from torchvision.models.segmentation import LRASPP

from snnconvert.data.scenes import SCENE_CLASSES, Scenes
from snnconvert.models.scene_lraspp import LowAndHigh, scene_lraspp
from snnconvert.models.scene_scores import dense_logits, segmentation_scores


@pytest.fixture(scope="module")
def lraspp():
    torch.manual_seed(0)
    return scene_lraspp().eval()


def test_it_is_torchvisions_and_differs_in_strides_alone(lraspp):
    assert type(lraspp) is LRASPP
    original = mobilenet_v3_small(width_mult=0.5, reduced_tail=True).features
    ours = lraspp.backbone.features
    shapes = {name: tensor.shape for name, tensor in original.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    pairs = zip(original.named_modules(), ours.named_modules(), strict=True)
    convolutions = [(name, one, other) for (name, one), (_, other) in pairs if isinstance(one, nn.Conv2d)]
    changed = [name for name, one, other in convolutions if one.stride != other.stride]
    assert changed == ["1.block.0.0", "9.block.1.0"]
    for _, one, other in convolutions:
        assert (one.kernel_size, one.padding, one.dilation, one.groups) == (
            other.kernel_size,
            other.padding,
            other.dilation,
            other.groups,
        )


@pytest.mark.parametrize("size", [(128, 128), (96, 72), (50, 61)])
def test_levels_have_strides_4_and_8_and_logits_the_images_size(lraspp, size):
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        levels = lraspp.backbone(image)
        logits = lraspp(image)["out"]
    for name, stride in (("low", 4), ("high", 8)):
        assert levels[name].shape[-2:] == tuple(-(-side // stride) for side in size)
    assert logits.shape == (2, len(SCENE_CLASSES), *size)
    assert scene_lraspp(3).eval()(image)["out"].shape[1] == 3


def test_levels_are_the_outputs_of_their_blocks():
    blocks = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    image = torch.rand(1, 3, 6, 6)
    levels = LowAndHigh(blocks, low=1)(image)
    assert list(levels) == ["low", "high"]
    assert torch.equal(levels["low"], blocks[:2](image))
    assert torch.equal(levels["high"], blocks(image))


class Oracle(nn.Module):
    """Decides by brightness: class 1 where the first channel is above one half, else 0; a dict or a tensor."""

    def __init__(self, as_dict):
        super().__init__()
        self.as_dict = as_dict

    def forward(self, images):
        logits = torch.zeros(len(images), len(SCENE_CLASSES), *images.shape[-2:])
        logits[:, 1] = images[:, 0] - 0.5
        logits[:, 2:] = -1
        return {"out": logits} if self.as_dict else logits


def test_scores_are_the_same_for_logits_in_a_dict():
    pytest.importorskip("torchmetrics")
    scenes = list(Scenes(6, 64))
    of_dict, of_tensor = (segmentation_scores(Oracle(as_dict), scenes)["miou"] for as_dict in (True, False))
    assert of_dict == of_tensor
    decided = torch.stack([(scene.image[0] > 0.5).long() for scene in scenes])
    truth = torch.stack([scene.mask for scene in scenes])
    overlaps = [
        float(((decided == k) & (truth == k)).sum() / ((decided == k) | (truth == k)).sum())
        for k in range(len(SCENE_CLASSES))
    ]
    assert of_dict == pytest.approx(sum(overlaps) / len(overlaps), abs=1e-6)
    logits = torch.rand(1, 2, 3, 3)
    assert dense_logits(logits) is dense_logits({"out": logits, "aux": logits + 1})
