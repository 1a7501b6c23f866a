"""Detectors of torchvision on a tiny backbone, with images of a few dozen pixels."""

from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

SIZES = {"min_size": 48, "max_size": 80}


class TinyBackbone(nn.Module):
    """Two levels of a feature pyramid, strides 4 and 8."""

    def __init__(self, channels=8):
        super().__init__()
        self.out_channels = channels
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.fpn = FeaturePyramidNetwork([8, 16], channels)

    def forward(self, x):
        first = self.stem(x)
        return self.fpn(OrderedDict([("0", first), ("1", self.stage(first))]))


def anchors(ratios=(0.5, 1.0, 2.0)):
    return AnchorGenerator(((8,), (16,)), (ratios,) * 2)


def images(count, seed=0):
    """Images of two sizes."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 48 + 12 * (index % 2), 48, generator=generator) for index in range(count)]


def build(kind):
    torch.manual_seed(0)
    if kind == "retinanet":
        net = RetinaNet(TinyBackbone(), 4, anchor_generator=anchors(), score_thresh=0.0, **SIZES)
    elif kind == "fcos":
        net = FCOS(TinyBackbone(32), 4, anchor_generator=anchors((1.0,)), score_thresh=0.0, **SIZES)
    else:
        pool = MultiScaleRoIAlign(["0", "1"], 4, 2)
        shared = {
            "rpn_anchor_generator": anchors(),
            "box_roi_pool": pool,
            "box_score_thresh": 0.0,
            "rpn_post_nms_top_n_test": 20,
            "box_detections_per_img": 5,
            **SIZES,
        }
        net = MaskRCNN(TinyBackbone(), 4, **shared) if kind == "maskrcnn" else FasterRCNN(TinyBackbone(), 4, **shared)
    return net.eval()
