"""An ONNX file as an image network: one image in, one tensor out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from snnconvert.errors import InputError
from snnconvert.models.onnx.declarations import OnnxInput
from snnconvert.models.onnx.dry_run import dry_run
from snnconvert.models.onnx.model import OnnxModel, load_onnx


@dataclass(frozen=True)
class OnnxImageNetwork:
    """A network from images to one tensor.

    Attributes:
        module: The network.
        input_size: C, H, W of one image.
        num_classes: Numbers per image if the output is [N, classes], else 0.
        map_classes: Channels of a floating output if it is [N, classes, H, W], else 0.
    """

    module: nn.Module
    input_size: tuple[int, int, int]
    num_classes: int
    map_classes: int = 0


def is_onnx(name: Path | str) -> bool:
    """Whether a name is that of an ONNX file."""
    return str(name).lower().endswith(".onnx")


def load_single(path: Path | str) -> OnnxModel:
    """Loads a file that maps one floating tensor to one tensor.

    Raises:
        InputError: as :func:`load_onnx`, or if the file has several inputs or outputs or takes integers.
        ConversionError: as :func:`load_onnx`.
    """
    model = load_onnx(path)
    if len(model.inputs) != 1 or not model.inputs[0].dtype.is_floating_point:
        given = ", ".join(f"{item.name} ({item.dtype})" for item in model.inputs)
        raise InputError(f"{path} takes {given}: export a network of one floating-point input")
    if len(model.outputs) != 1:
        names = ", ".join(model.outputs[:6])
        raise InputError(
            f"{path} has {len(model.outputs)} outputs ({names}): convert it, or one of them, from Python, "
            "with snnconvert.models.onnx.load_onnx(path, outputs=...)"
        )
    return model


def load_image_network(path: Path | str, image_size: int | None = None) -> OnnxImageNetwork:
    """Loads a file that maps images [N, C, H, W] to one tensor.

    Args:
        path: The .onnx file.
        image_size: Height and width where the file leaves them open.

    Raises:
        InputError: as :func:`load_single`, or if the input is no image or its size isn't known.
        ConversionError: as :func:`load_onnx`.
    """
    model = load_single(path)
    size = _image_size(model.inputs[0], str(path), image_size)
    with dry_run():
        output = model.module(torch.empty(2, *size))
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    maps = shape[1] if len(shape) == 4 and output.is_floating_point() else 0
    return OnnxImageNetwork(model.module, size, shape[-1] if len(shape) == 2 else 0, maps)


def _image_size(declared: OnnxInput, path: str, image_size: int | None) -> tuple[int, int, int]:
    text = f"[{', '.join('?' if size is None else str(size) for size in declared.shape)}]"
    if len(declared.shape) != 4:
        raise InputError(f"{path} takes {declared.name} {text}: an image network takes [N, C, H, W]")
    _, channels, *sides = declared.shape
    if channels is None:
        raise InputError(f"{path} takes {declared.name} {text}, of any number of channels: export it with a fixed one")
    found = []
    for side in sides:
        if side is None and image_size is None:
            raise InputError(f"{path} takes {declared.name} {text}, of any size: give --image-size")
        if side is not None and image_size not in (None, side):
            raise InputError(f"{path} takes {declared.name} {text}: image_size {image_size} doesn't fit, leave it out")
        found.append(side if side is not None else image_size)
    height, width = found
    assert height is not None
    assert width is not None
    return channels, height, width
