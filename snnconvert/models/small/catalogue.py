"""The small networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from snnconvert.models.small.cifar_resnet import resnet20, resnet44
from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.small.network import SmallNet
from snnconvert.models.small.resnet import resnet18, sew_resnet18, sew_resnet34
from snnconvert.models.small.spikformer import spikformer
from snnconvert.models.small.vgg import vgg8, vgg16

Builder = Callable[[SmallNetConfig], SmallNet]
SMALL_NETWORKS: Mapping[str, Builder] = MappingProxyType(
    {
        "resnet18": resnet18,
        "resnet20": resnet20,
        "resnet44": resnet44,
        "sew_resnet18": sew_resnet18,
        "sew_resnet34": sew_resnet34,
        "spikformer": spikformer,
        "vgg8": vgg8,
        "vgg16": vgg16,
    }
)
