"""The networks for scenes that come with the package: how each is calibrated, converted and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.trained.conversion import timed_conversion
from snnconvert.config import ConversionConfig
from snnconvert.data.scenes import Scene
from snnconvert.hybrid import HybridModel
from snnconvert.models.scene_detector import SceneDetector
from snnconvert.models.scene_losses import detection_distance
from snnconvert.models.scene_scores import detection_scores, segmentation_scores
from snnconvert.models.scenes import (
    load_scene_detector,
    load_scene_lraspp,
    load_scene_retinanet,
    load_scene_segmenter,
)
from snnconvert.spiking_model import SpikingModel
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.objective import Distance

Scores = dict[str, float]
TRAINING = FinetuneConfig(epochs=8, learning_rate=4e-4, batch_size=8, ema=0.99)
_BATCH = 16


@dataclass(frozen=True)
class SceneNetwork:
    """One network.

    Attributes:
        described: what it is.
        load: gives it with its trained weights.
        part: what of it is converted, itself unless it is a detector of this package.
        rejoined: the detector with a converted network in the place of its own.
        scores: its metrics on scenes, in 0..1.
        distance: of its outputs from another network's; None: as fine-tuning decides.
    """

    described: str
    load: Callable[[], nn.Module]
    part: Callable[[Any], nn.Module]
    rejoined: Callable[[nn.Module], nn.Module]
    scores: Callable[[nn.Module, Iterable[Scene]], Scores]
    distance: Distance | None = None

    def converted(
        self, ann: nn.Module, calibration: Tensor, config: ConversionConfig
    ) -> tuple[nn.Module, SpikingModel | HybridModel, float]:
        """The network with spikes inside, the spiking network itself, and the seconds of the conversion.

        Args:
            ann: what ``load`` gave.
            calibration: images [N, 3, H, W].
            config: the settings.
        """
        snn, seconds = timed_conversion(self.part(ann), list(torch.split(calibration, _BATCH)), config)
        return self.rejoined(snn), snn, seconds

    def tuned(self, ann: nn.Module, snn: SpikingModel, images: Tensor) -> tuple[nn.Module, SpikingModel, float]:
        """The same after fine-tuning, which learns from the ANN alone, and its seconds.

        Args:
            ann: what ``load`` gave.
            snn: what it was converted to.
            images: [N, 3, H, W], without labels.
        """
        began = time.perf_counter()
        trained = finetune(snn, images, TRAINING, teacher=self.part(ann), distance=self.distance)
        return self.rejoined(trained), trained, time.perf_counter() - began


def _itself(network: nn.Module) -> nn.Module:
    return network


SCENE_NETWORKS: Mapping[str, SceneNetwork] = {
    "detector": SceneNetwork(
        "anchor-free detector",
        load_scene_detector,
        lambda ann: ann.network,
        SceneDetector,
        detection_scores,
        detection_distance,
    ),
    "retinanet": SceneNetwork("torchvision's RetinaNet", load_scene_retinanet, _itself, _itself, detection_scores),
    "segmenter": SceneNetwork("encoder-decoder", load_scene_segmenter, _itself, _itself, segmentation_scores),
    "lraspp": SceneNetwork("torchvision's LR-ASPP", load_scene_lraspp, _itself, _itself, segmentation_scores),
}


def mean_bit_budget(snn: SpikingModel | HybridModel) -> float:
    """BB weighted by multiply-accumulates: S-ACE over the spiking layers' multiply-accumulates, of all parts."""
    reports = list(snn.report.values()) if isinstance(snn, HybridModel) else [snn.report]
    totals = [report.totals for report in reports]
    spiking = sum(total.macs - total.analog_macs for total in totals)
    return sum(total.s_ace for total in totals) / spiking
