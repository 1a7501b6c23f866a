"""Networks for segmentation and detection: torchvision's by name, and .onnx files that segment."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.data.boxes import LabelRange
from snnconvert.data.preprocessing import Preprocessing
from snnconvert.errors import InputError, first_line
from snnconvert.models.checkpoint import apply_state_dict, load_state_dict
from snnconvert.models.onnx.classifier import is_onnx, load_image_network
from snnconvert.models.source import LoadedModel

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SEGMENTATION_SIZE = 520
_AUXILIARY = "aux_classifier"
_ADVICE = "give --checkpoint FILE or --random-weights"


@dataclass(frozen=True)
class ModelRequest:
    """A network somebody asked for.

    Attributes:
        name: One of torchvision's, or the path of an .onnx file.
        checkpoint: Weights to load instead of the pretrained ones.
        random_weights: Take seeded random weights instead of the pretrained ones.
        num_classes: Classes, with the background if it is one; None for the network's own.
        image_size: Side of the input; None for the network's own.
        seed: Of random weights; the global random state is left alone.
    """

    name: str
    checkpoint: Path | None = None
    random_weights: bool = False
    num_classes: int | None = None
    image_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.random_weights:
            raise InputError(f"--checkpoint {self.checkpoint} and --random-weights exclude each other: give one")
        for name, value, low in (("num_classes", self.num_classes, 1), ("image_size", self.image_size, 1)):
            if value is not None and value < low:
                raise InputError(f"{name} is {value}: it must be {low} or more")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be 0 or more")

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form."""
        return {
            **dataclasses.asdict(self),
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelRequest:
        """Reads what :meth:`to_dict` gave.

        Raises:
            TypeError: if a field is missing, unknown or of another kind.
            InputError: if one is out of its range.
        """
        checkpoint = data.get("checkpoint")
        return cls(**{**data, "checkpoint": None if checkpoint is None else Path(checkpoint)})

    @property
    def source(self) -> str:
        """Where the weights come from, in a report's words."""
        if self.checkpoint is not None:
            return f"checkpoint {self.checkpoint}"
        return "random" if self.random_weights else "pretrained"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user must read."""
        if not self.random_weights:
            return ()
        return (f"The weights of {self.name} are random (seed {self.seed}): its predictions mean nothing.",)


@dataclass(frozen=True)
class LoadedDetector:
    """A detector, and what it calls its classes.

    Attributes:
        model: The network; its preprocessing gives images in 0..1, all else is in the network.
        labels: The labels it gives.
        names: Of the classes from label 0 on, as far as they are known.
    """

    model: LoadedModel
    labels: LabelRange
    names: tuple[str, ...]


def load_segmentation(request: ModelRequest) -> LoadedModel:
    """Gets a network that gives logits [N, classes, H, W], of torchvision by its name or from an .onnx file.

    Images are resized to a square (an .onnx file's own height and width), and not cropped. Auxiliary classifiers of
    torchvision's networks, which only training reads, are left out.

    Raises:
        InputError: An unknown name, a file or a checkpoint that can't be used, or weights that can't be had.
    """
    if is_onnx(request.name):
        return _onnx_segmentation(request)
    from torchvision.models import segmentation

    module, _, classes = _build(request, segmentation, "segmentation")
    setattr(module, _AUXILIARY, None)
    side = request.image_size or _SEGMENTATION_SIZE
    return _loaded(request, module, classes, _squashed((3, side, side), _MEAN, _STD))


def load_detector(request: ModelRequest) -> LoadedDetector:
    """Gets one of torchvision's detectors by its name.

    Its transform resizes the images; ``image_size`` is the shorter side (the longer one at most 5/3 of it), or both
    sides of an SSD.

    Raises:
        InputError: An unknown name, an .onnx file, a checkpoint that can't be used, or weights that can't be had.
    """
    if is_onnx(request.name):
        raise InputError(
            f"{request.name}: the outputs of detectors in .onnx files differ from file to file, so that they can't be "
            "told here: decode them in Python, around snnconvert.convert"
        )
    from torchvision.models import detection

    module, names, classes = _build(request, detection, "detection")
    side = _resized(module, request.image_size)
    first = 0 if isinstance(module, (detection.RetinaNet, detection.FCOS)) else 1
    preprocessing = _squashed((3, side, side), (0.0,) * 3, (1.0,) * 3)
    return LoadedDetector(_loaded(request, module, classes, preprocessing), LabelRange(first, classes), names)


def _resized(module: Any, image_size: int | None) -> int:
    """Sets the size the detector's transform resizes to, if it is given; what it is."""
    transform = module.transform
    if image_size is not None:
        if transform.fixed_size is not None:
            transform.fixed_size = (image_size, image_size)
        transform.min_size, transform.max_size = (image_size,), round(image_size * 5 / 3)
    fixed = transform.fixed_size
    return int(fixed[0] if fixed is not None else transform.min_size[-1])


def _build(request: ModelRequest, family: Any, task: str) -> tuple[nn.Module, tuple[str, ...], int]:
    """The network, the names of its classes if it has its usual ones, and their number."""
    from torchvision.models import get_model, get_model_weights, list_models

    name, known = request.name, list_models(module=family)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise InputError(f"{name!r} is none of torchvision's {task} models: {hint}")
    weights = get_model_weights(name).DEFAULT
    names = tuple(str(item) for item in weights.meta["categories"])
    classes = request.num_classes or len(names)
    pretrained = request.checkpoint is None and not request.random_weights
    if pretrained and classes != len(names):
        raise InputError(f"the pretrained {name} has {len(names)} classes, not {classes}: {_ADVICE}")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(request.seed)
            if pretrained:
                with contextlib.redirect_stdout(io.StringIO()):  # torch.hub announces its download there
                    module: nn.Module = get_model(name, weights=weights, progress=False)
            else:
                module = get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    except Exception as error:  # downloads and constructors raise whatever they run into
        if pretrained:
            raise InputError(f"the weights of {name} can't be had ({first_line(error)}): {_ADVICE}") from error
        raise InputError(f"torchvision can't build {name} with {classes} classes ({first_line(error)})") from error
    if request.checkpoint is not None:
        state = _without_auxiliary(load_state_dict(request.checkpoint))
        apply_state_dict(module, state, source=str(request.checkpoint))
    return module, names if classes == len(names) else _names_of(classes), classes


def _without_auxiliary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(f"{_AUXILIARY}.")}


def _names_of(classes: int) -> tuple[str, ...]:
    """Pascal VOC's names, if there are as many classes."""
    from torchvision.models.segmentation import FCN_ResNet50_Weights

    names = tuple(str(item) for item in FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"])
    return names if len(names) == classes else ()


def _onnx_segmentation(request: ModelRequest) -> LoadedModel:
    name = request.name
    if request.checkpoint is not None or request.random_weights:
        option = "--random-weights" if request.checkpoint is None else "--checkpoint"
        raise InputError(f"{name} brings its own weights: leave {option} out")
    network = load_image_network(Path(name), request.image_size)
    if not network.map_classes:
        raise InputError(f"{name} doesn't give logits [N, classes, H, W]: it is no network for segmentation")
    if request.num_classes not in (None, network.map_classes):
        raise InputError(f"{name} has {network.map_classes} classes, not {request.num_classes}: leave num_classes out")
    channels = network.input_size[0]
    is_colour = channels == 3
    mean, std = (_MEAN, _STD) if is_colour else ((0.0,) * channels, (1.0,) * channels)
    assumption = "ImageNet's mean and deviation are assumed" if is_colour else "values in 0..1 are assumed"
    return LoadedModel(
        name=Path(name).name,
        module=network.module.to(device="cpu", dtype=torch.float32).eval(),
        input_size=network.input_size,
        num_classes=network.map_classes,
        preprocessing=_squashed(network.input_size, mean, std),
        weights=f"onnx {name}",
        notes=(f"{Path(name).name} doesn't say how images are prepared for it: {assumption}.",),
    )


def _squashed(size: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    """The whole image at the network's height and width."""
    return Preprocessing(size, mean, std, "bilinear", crop_pct=1.0, crop_mode="squash")


def _loaded(request: ModelRequest, module: nn.Module, classes: int, preprocessing: Preprocessing) -> LoadedModel:
    return LoadedModel(
        name=request.name,
        module=module.to(device="cpu", dtype=torch.float32).eval(),
        input_size=preprocessing.input_size,
        num_classes=classes,
        preprocessing=preprocessing,
        weights=request.source,
        notes=request.notes,
    )
