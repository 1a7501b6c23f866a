"""Conversions between image files, arrays and the tensors a network reads."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from snnconvert.errors import InputError

_MODES = {1: "L", 3: "RGB"}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image(path: Path) -> Image.Image:
    """Decodes an image file completely.

    Args:
        path: The file.

    Returns:
        The image, detached from the file.

    Raises:
        InputError: The file is missing, truncated, or no image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            pixels: Image.Image = image.copy()
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the image {path} can't be read ({reason}): replace or remove the file") from error
    return pixels


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Converts an image to the colour mode of a network's input, 8 bits a channel.

    Args:
        image: Any image; 16-bit grey is scaled to 8 bits.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        The image in mode L or RGB.

    Raises:
        InputError: The network takes neither 1 nor 3 channels.
    """
    if channels not in _MODES:
        raise InputError(f"images have 1 or 3 channels, the network takes {channels}: pass tensors instead")
    if image.mode in _SIXTEEN_BITS:
        image = _to_eight_bits(image)
    mode = _MODES[channels]
    return image if image.mode == mode else image.convert(mode)


def array_to_image(pixels: NDArray[np.generic]) -> Image.Image:
    """Makes an image of an array.

    Args:
        pixels: [H, W] or [H, W, C] with C in 1, 3; uint8, or floating point in 0..1 (rounded to 8 bits).

    Returns:
        The image in mode L or RGB.
    """
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels.astype(np.float32) * 255.0).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def image_to_tensor(image: Image.Image) -> Tensor:
    """Makes a tensor of an image.

    Args:
        image: In mode L or RGB.

    Returns:
        float32 [C, H, W] in 0..1.
    """
    return array_to_tensor(np.array(image))


def array_to_tensor(pixels: NDArray[np.generic]) -> Tensor:
    """Makes a tensor of an array without rounding.

    Args:
        pixels: [H, W] or [H, W, C]; uint8, or floating point in 0..1.

    Returns:
        float32 [C, H, W] in 0..1.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32))
    return values / 255.0 if pixels.dtype == np.uint8 else values


def match_channels(pixels: Tensor, channels: int) -> Tensor:
    """Repeats a grey plane, or weighs colours to grey (ITU-R 601 luma), to reach a number of channels.

    Args:
        pixels: [C, H, W] with C in 1, 3.
        channels: 1 or 3.

    Returns:
        [channels, H, W].

    Raises:
        InputError: The network takes neither 1 nor 3 channels.
    """
    if channels not in _MODES:
        raise InputError(f"images have 1 or 3 channels, the network takes {channels}: pass tensors instead")
    if pixels.shape[0] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(3, -1, -1).contiguous()
    weights = pixels.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("c,chw->hw", weights, pixels)[None]


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.clip(np.array(image).astype(np.int64), 0, 65535)
    return Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
