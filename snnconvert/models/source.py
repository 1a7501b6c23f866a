"""One way to get a network by name: the embedded one, timm's, a checkpoint, random weights, or an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnconvert.data.digits import DIGITS_CLASSES, digits_preprocessing
from snnconvert.data.preprocessing import Preprocessing, timm_preprocessing
from snnconvert.errors import InputError
from snnconvert.models.checkpoint import apply_state_dict, load_state_dict
from snnconvert.models.digits import DigitsNet, load_digits_net
from snnconvert.models.onnx.classifier import is_onnx, load_image_network
from snnconvert.models.small.catalogue import SMALL_NETWORKS
from snnconvert.models.small.config import SmallNetConfig
from snnconvert.models.timm_models import build_pretrained, build_untrained, load_checkpoint, resolve_name

DIGITS, SMALL = "digits", "small/"
_SMALL_SIZE, _SMALL_CLASSES = 32, 10
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to convert.

    Attributes:
        name: `digits`, or timm's name; with the weights' tag if they are pretrained. An ONNX file's own name.
        module: The network: evaluation mode, CPU, float32.
        input_size: C, H, W of one input.
        num_classes: Outputs of the classifier; 0 for a timm model that has none.
        preprocessing: What to do to images before the network sees them.
        weights: "pretrained", "checkpoint FILE", "onnx FILE", "random" or "embedded".
        notes: What the user must read, such as that the weights are random.
    """

    name: str
    module: nn.Module
    input_size: tuple[int, int, int]
    num_classes: int
    preprocessing: Preprocessing
    weights: str
    notes: tuple[str, ...]


def load_model(
    name: str,
    *,
    checkpoint: Path | None = None,
    random_weights: bool = False,
    num_classes: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Gets a network by name.

    Args:
        name: "digits" for the embedded network, else a timm name such as `resnet50`, `timm/resnet50` or
            `resnet50.a1_in1k`, the path of an .onnx file, or a network of :mod:`snnconvert.models.small` such as
            `small/resnet20`, whose weights are a checkpoint or random.
        checkpoint: Weights to load instead of the pretrained ones.
        random_weights: Take seeded random weights instead of the pretrained ones.
        num_classes: Classes of the classifier; None for the network's own.
        image_size: Height and width of the input; None for the network's own.
        seed: Of random weights; the global random state is left alone.

    Returns:
        The network and what is needed to use it.

    Raises:
        InputError: An unknown name, contradicting or impossible arguments, a checkpoint that can't be read or
            doesn't fit, or pretrained weights that can't be had.
    """
    _check_arguments(checkpoint, random_weights, num_classes, image_size, seed)
    load: Callable[..., LoadedModel] = _load_timm
    if name == DIGITS:
        load = _load_digits
    elif is_onnx(name):
        load = _load_onnx
    elif name.startswith(SMALL):
        load = _load_small
    return load(
        name,
        checkpoint=checkpoint,
        random_weights=random_weights,
        num_classes=num_classes,
        image_size=image_size,
        seed=seed,
    )


def _check_arguments(
    checkpoint: Path | None, random_weights: bool, num_classes: int | None, image_size: int | None, seed: int
) -> None:
    if checkpoint is not None and random_weights:
        raise InputError(f"--checkpoint {checkpoint} and --random-weights exclude each other: give one of them")
    if num_classes is not None and num_classes < 1:
        raise InputError(f"num_classes is {num_classes}: it must be 1 or more")
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size is {image_size}: it must be 1 or more")
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be 0 or more")


def _load_digits(
    name: str,
    *,
    checkpoint: Path | None,
    random_weights: bool,
    num_classes: int | None,
    image_size: int | None,
    seed: int,
) -> LoadedModel:
    preprocessing = digits_preprocessing()
    side = preprocessing.input_size[1]
    if image_size not in (None, side):
        raise InputError(f"image_size is {image_size}: the digits network takes {side} x {side} pixels, leave it out")
    classes = num_classes or DIGITS_CLASSES
    if checkpoint is None and not random_weights:
        if classes != DIGITS_CLASSES:
            raise InputError(
                f"num_classes is {classes} and the embedded weights of digits have {DIGITS_CLASSES} classes: "
                "leave it out, or give --checkpoint or --random-weights"
            )
        module: nn.Module = load_digits_net()
    else:
        module = _random_digits_net(classes, seed)
        if checkpoint is not None:
            apply_state_dict(module, load_state_dict(checkpoint), source=str(checkpoint))
    return LoadedModel(
        name=name,
        module=_ready(module),
        input_size=preprocessing.input_size,
        num_classes=classes,
        preprocessing=preprocessing,
        weights=_weights(checkpoint, random_weights, "embedded"),
        notes=_random_note(name, seed) if random_weights else (),
    )


def _load_onnx(
    name: str,
    *,
    checkpoint: Path | None,
    random_weights: bool,
    num_classes: int | None,
    image_size: int | None,
    seed: int,  # noqa: ARG001  # an ONNX file has its weights; all loaders share their signature
) -> LoadedModel:
    if checkpoint is not None or random_weights:
        option = "--random-weights" if checkpoint is None else "--checkpoint"
        raise InputError(f"{name} brings its own weights: leave {option} out")
    network = load_image_network(Path(name), image_size)
    if num_classes not in (None, network.num_classes):
        raise InputError(f"{name} has {network.num_classes} classes, not {num_classes}: leave num_classes out")
    preprocessing, assumption = _assumed_preprocessing(network.input_size)
    return LoadedModel(
        name=Path(name).name,
        module=_ready(network.module),
        input_size=network.input_size,
        num_classes=network.num_classes,
        preprocessing=preprocessing,
        weights=f"onnx {name}",
        notes=(f"{Path(name).name} doesn't say how images are prepared for it: {assumption}.",),
    )


def _load_small(
    name: str,
    *,
    checkpoint: Path | None,
    random_weights: bool,
    num_classes: int | None,
    image_size: int | None,
    seed: int,
) -> LoadedModel:
    builder = SMALL_NETWORKS.get(name.removeprefix(SMALL))
    if builder is None:
        raise InputError(f"there is no model '{name}': the small networks are {', '.join(SMALL_NETWORKS)}")
    if checkpoint is None and not random_weights:
        raise InputError(f"{name} comes without weights: give --checkpoint FILE, or --random-weights")
    classes, size = num_classes or _SMALL_CLASSES, image_size or _SMALL_SIZE
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = builder(SmallNetConfig(form="ann", classes=classes))
    if checkpoint is not None:
        apply_state_dict(module, load_state_dict(checkpoint), source=str(checkpoint))
    mean, std = _IMAGENET_MEAN, _IMAGENET_STD
    preprocessing = Preprocessing((3, size, size), mean, std, interpolation="bilinear", crop_pct=1.0)
    return LoadedModel(
        name=name,
        module=_ready(module),
        input_size=preprocessing.input_size,
        num_classes=classes,
        preprocessing=preprocessing,
        weights=_weights(checkpoint, random_weights, "random"),
        notes=_random_note(name, seed) if random_weights else (),
    )


def _assumed_preprocessing(input_size: tuple[int, int, int]) -> tuple[Preprocessing, str]:
    """What most image networks were trained with, and words for it."""
    channels = input_size[0]
    if channels == 3:
        return Preprocessing(input_size, _IMAGENET_MEAN, _IMAGENET_STD), "ImageNet's mean and deviation are assumed"
    return Preprocessing(input_size, (0.0,) * channels, (1.0,) * channels), "values in 0..1 are assumed"


def _random_digits_net(num_classes: int, seed: int) -> DigitsNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DigitsNet(num_classes)


def _load_timm(
    name: str,
    *,
    checkpoint: Path | None,
    random_weights: bool,
    num_classes: int | None,
    image_size: int | None,
    seed: int,
) -> LoadedModel:
    name = resolve_name(name, also=(DIGITS,))
    if checkpoint is None and not random_weights:
        name, module = build_pretrained(name, num_classes=num_classes, image_size=image_size, seed=seed)
    else:
        module = build_untrained(name, num_classes=num_classes, image_size=image_size, seed=seed)
        if checkpoint is not None:
            load_checkpoint(module, checkpoint)
    cfg: dict[str, Any] = dict(getattr(module, "pretrained_cfg", None) or {})
    classes = int(getattr(module, "num_classes", num_classes or 0))
    notes = _random_note(name, seed) if random_weights else ()
    if checkpoint is None and not random_weights and classes not in (0, cfg.get("num_classes")):
        pretrained = cfg.get("num_classes")
        notes = (f"{name} is pretrained for {pretrained} classes: with {classes} its classifier is random.",)
    if classes == 0:
        notes = (
            *notes,
            f"{name} has no classifier: its outputs are features; num_classes gives it a random one.",
        )
    preprocessing = timm_preprocessing(cfg, image_size=image_size)
    return LoadedModel(
        name=name,
        module=_ready(module),
        input_size=preprocessing.input_size,
        num_classes=classes,
        preprocessing=preprocessing,
        weights=_weights(checkpoint, random_weights, "pretrained"),
        notes=notes,
    )


def _ready(module: nn.Module) -> nn.Module:
    return module.to(device="cpu", dtype=torch.float32).eval()


def _weights(checkpoint: Path | None, random_weights: bool, default: str) -> str:
    if checkpoint is not None:
        return f"checkpoint {checkpoint}"
    return "random" if random_weights else default


def _random_note(name: str, seed: int) -> tuple[str, ...]:
    return (f"The weights of {name} are random (seed {seed}): its predictions mean nothing.",)
