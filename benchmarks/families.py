"""The smallest classifier of every model family of timm, with random weights that keep activations alive."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

DEFAULT_CACHE = Path.home() / ".cache" / "snnconvert" / "coverage"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OCTAVES = (2, 4, 8, 16, 32)
_SHAPES = 6
_SETTLING_IMAGES = 32
_LEAST_VARIANCE = 0.05
_DEAD, _DEAD_SCALE = 1e-3, 1e-2
_SCALES = ("gamma", "ls", "scale", "alpha", "gain", "lambda")


@dataclass(frozen=True)
class Family:
    """One family and the model that stands for it.

    Attributes:
        name: timm's module, such as ``resnet``.
        model: timm's name of its smallest classifier.
        parameters: of that model.
        classes: its outputs.
        input_size: (channels, height, width) of its default configuration.
    """

    name: str
    model: str
    parameters: int
    classes: int
    input_size: tuple[int, int, int]


@dataclass(frozen=True)
class Survey:
    """All families of the installed timm: those with a classifier, and why the others are left out."""

    families: tuple[Family, ...]
    skipped: dict[str, str]


def families(cache: Path = DEFAULT_CACHE) -> list[Family]:
    """The families that hold an image classifier, by name."""
    return list(survey(cache).families)


def survey(cache: Path = DEFAULT_CACHE, jobs: int = 2) -> Survey:
    """Counts the parameters of every model on the meta device, once for each version of timm.

    Args:
        cache: folder that keeps the counts.
        jobs: processes that count.
    """
    path = cache / f"timm-{timm.__version__}.json"
    if path.is_file():
        counts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    else:
        names = timm.list_models()
        with ProcessPoolExecutor(jobs) as pool:
            counts = dict(zip(names, pool.map(_count, names, chunksize=16), strict=True))
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(counts), encoding="utf-8")
    found, skipped = [], {}
    for module in timm.list_modules():
        choice = _smallest(module, counts)
        if isinstance(choice, Family):
            found.append(choice)
        else:
            skipped[module] = choice
    return Survey(tuple(found), skipped)


def build(family: Family, seed: int = 0) -> nn.Module:
    """The family's model in evaluation mode: random weights, live branches, settled BatchNorm statistics.

    Scales, residual branches, tables and heads that timm initializes to (nearly) nothing get ordinary values,
    as training would give them; the global random state is left alone.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(seed)
        network: nn.Module = timm.create_model(family.model, pretrained=False)
        network.eval()
        for module in network.modules():
            _enliven(module, family.classes)
        _settle(network, family, seed + 1)
    network.train()  # some models keep tables computed from their weights until they are trained again
    return network.eval()


def smooth_images(count: int, input_size: tuple[int, int, int], seed: int) -> Tensor:
    """Random images [count, C, H, W] like photographs in their spectrum: smooth patches, edges, shared hues.

    Octaves of noise whose amplitude falls with their frequency, and half-planes, boxes and discs with sharp
    edges; of one contrast, scaled to 0..1 and normalized as ImageNet is.
    """
    channels, height, width = input_size
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([_image(channels, height, width, generator) for _ in range(count)])


def _image(channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    values = torch.zeros(channels, height, width)
    for cells in _OCTAVES:
        noise = torch.randn(channels + 1, cells, cells, generator=generator)
        mixed = 0.9 * noise[:1] + 0.4 * noise[1:]
        smooth = F.interpolate(mixed[None], (height, width), mode="bicubic", align_corners=False)[0]
        values = values + 2.0 / cells**0.8 * smooth
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    for shape in range(_SHAPES):
        centre, extent = torch.rand(2, 2, generator=generator).mul(2).sub(1)
        v, u = y - centre[0], x - centre[1]
        inside = (
            v * extent[0] + u * extent[1] > 0,
            (v.abs() < extent[0].abs()) & (u.abs() < extent[1].abs()),
            v.square() + u.square() < extent[0].square(),
        )[shape % 3]
        values = values + torch.randn(channels, 1, 1, generator=generator) * inside
    values = (values - values.mean()) / values.std() + 0.3 * torch.randn(channels, 1, 1, generator=generator)
    mean, std = (torch.tensor((v * channels)[:channels])[:, None, None] for v in (_MEAN, _STD))
    return (values.sigmoid() - mean) / std


def _count(name: str) -> list[int] | str:
    """Parameters and classes of a model, or why it can't be built."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: Any = timm.create_model(name, pretrained=False)
    except Exception as error:  # constructors raise whatever they run into
        return f"{type(error).__name__}: {error}"
    return [sum(parameter.numel() for parameter in network.parameters()), int(network.num_classes)]


def _smallest(module: str, counts: dict[str, Any]) -> Family | str:
    """The smallest classifier of a module, or why there is none; timm's own test networks don't count."""
    names = [name for name in timm.list_models(module=module) if not name.startswith("test_") and name in counts]
    built = [name for name in names if not isinstance(counts[name], str)]
    if not built:
        return f"none of its models can be built: {counts[names[0]]}" if names else "holds no models"
    classifiers = [name for name in built if counts[name][1] > 0]
    if not classifiers:
        return f"none of its {len(built)} models is a classifier, such as {built[0]}"
    model = min(classifiers, key=lambda name: (counts[name][0], name))
    parameters, classes = counts[model]
    cfg = get_pretrained_cfg(model)
    channels, height, width = (3, 224, 224) if cfg is None else cfg.input_size
    return Family(module, model, parameters, classes, (channels, height, width))


def _enliven(module: nn.Module, classes: int) -> None:
    """Gives ordinary values to a module's own parameters that are (nearly) zero."""
    for name, parameter in module.named_parameters(recurse=False):
        size = float(parameter.square().mean().sqrt())
        along_one = parameter.numel() == max((1, *parameter.shape))
        if any(part in name for part in _SCALES) and size < _DEAD_SCALE:
            parameter.uniform_(0.1, 1.0)
        elif size >= _DEAD:
            continue
        elif name == "weight" and along_one:
            parameter.fill_(1.0)
        elif name == "weight" and getattr(module, "out_features", None) != classes:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        else:
            parameter.normal_(0.0, 0.02)


def _settle(network: nn.Module, family: Family, seed: int) -> None:
    """Sets BatchNorm statistics to those of one batch; everything else stays in evaluation mode.

    One large batch, so that every layer's statistics are those behind layers that already have theirs.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        network(smooth_images(_SETTLING_IMAGES, family.input_size, seed))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        if norm.running_var is not None:  # a channel all but silent on these images would shout on others
            norm.running_var.clamp_(min=_LEAST_VARIANCE * float(norm.running_var.mean()))
