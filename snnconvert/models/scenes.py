"""The networks trained on procedural scenes that come with the package: two detectors and two segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.segmentation import LRASPP

from snnconvert.models.checkpoint import apply_state_dict, load_state_dict
from snnconvert.models.scene_detector import SceneDetector
from snnconvert.models.scene_lraspp import scene_lraspp
from snnconvert.models.scene_retinanet import scene_retinanet
from snnconvert.models.scene_segmenter import SceneSegmenter

_WEIGHTS = Path(__file__).parent / "weights"
DETECTOR_WEIGHTS = _WEIGHTS / "scene_detector.safetensors"
RETINANET_WEIGHTS = _WEIGHTS / "scene_retinanet.safetensors"
SEGMENTER_WEIGHTS = _WEIGHTS / "scene_segmenter.safetensors"
LRASPP_WEIGHTS = _WEIGHTS / "scene_lraspp.safetensors"

_Network = TypeVar("_Network", bound=nn.Module)


def load_scene_detector() -> SceneDetector:
    """Loads the anchor-free detector with its trained weights.

    Its ``network`` converts as a whole, and what comes of it takes its place:
    ``SceneDetector(snnconvert.convert(detector.network, images))``.

    Returns:
        The detector in evaluation mode.

    Raises:
        InputError: The installed weights file is missing or damaged.
    """
    return _loaded(SceneDetector(), DETECTOR_WEIGHTS)


def load_scene_retinanet() -> RetinaNet:
    """Loads torchvision's RetinaNet at 128 px with its trained weights.

    ``snnconvert.convert(detector, loader)`` converts its backbone and its head.

    Returns:
        The detector in evaluation mode; its labels are indices into
        :data:`snnconvert.data.scenes.SCENE_CLASSES`.

    Raises:
        InputError: The installed weights file is missing or damaged.
    """
    return _loaded(scene_retinanet(), RETINANET_WEIGHTS)


def load_scene_segmenter() -> SceneSegmenter:
    """Loads the encoder-decoder with its trained weights.

    Returns:
        The network in evaluation mode.

    Raises:
        InputError: The installed weights file is missing or damaged.
    """
    return _loaded(SceneSegmenter(), SEGMENTER_WEIGHTS)


def load_scene_lraspp() -> LRASPP:
    """Loads torchvision's LR-ASPP on a narrow MobileNetV3 with its trained weights.

    Returns:
        The network in evaluation mode; it gives a dict of logits "out", as all segmenters of torchvision.

    Raises:
        InputError: The installed weights file is missing or damaged.
    """
    return _loaded(scene_lraspp(), LRASPP_WEIGHTS)


def _loaded(network: _Network, path: Path) -> _Network:
    apply_state_dict(network, load_state_dict(path), source=path.name)
    network.eval()
    return network
