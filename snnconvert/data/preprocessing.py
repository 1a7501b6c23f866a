"""What happens to an image before a network sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from snnconvert.data.pixels import image_to_tensor, to_channels
from snnconvert.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, scale to 0..1, normalize: the evaluation transform a network was trained for.

    Picklable, so data loader workers can carry it.

    Attributes:
        input_size: C, H, W of the tensor the network reads.
        mean: Subtracted from each channel of the 0..1 image.
        std: Divides each channel after that.
        interpolation: Name of the resize filter: bilinear, bicubic, nearest, ...
        crop_pct: Share of the resized image that the crop keeps.
        crop_mode: center, squash or border, as timm defines them.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"

    def __call__(self, image: Image.Image) -> Tensor:
        """Prepares one image.

        Args:
            image: Any image; grey becomes RGB for a network with 3 channels, and the reverse.

        Returns:
            float32 [C, H, W].

        Raises:
            InputError: The network takes neither 1 nor 3 channels.
        """
        return self._transform(to_channels(image, self.input_size[0]))

    def without_resize(self, image: Image.Image) -> Tensor:
        """Prepares an image that already has the network's height and width: no resize, no crop.

        Args:
            image: An image of H x W pixels.

        Returns:
            float32 [C, H, W].

        Raises:
            InputError: The network takes neither 1 nor 3 channels.
        """
        return self.normalize(image_to_tensor(to_channels(image, self.input_size[0])))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Subtracts the mean and divides by the standard deviation.

        Args:
            pixels: Floating point [..., C, H, W] in 0..1.

        Returns:
            A tensor of the same shape and dtype.
        """
        mean = torch.tensor(self.mean, dtype=pixels.dtype).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=pixels.dtype).view(-1, 1, 1)
        return (pixels - mean) / std

    def describe(self) -> dict[str, object]:
        """Gives the settings as plain JSON values, for reports.

        Returns:
            One entry per attribute; tuples as lists.
        """
        return {
            "input_size": list(self.input_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Preprocessing:
        """Reads what :meth:`describe` gave.

        Raises:
            InputError: if a setting is missing or unknown.
        """
        try:
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in description.items()
            }
            return cls(**values)
        except TypeError as error:
            raise InputError(f"the report's preprocessing can't be read: {error}") from None

    @cached_property
    def _transform(self) -> Callable[[Image.Image], Tensor]:
        from timm.data.transforms_factory import create_transform  # takes seconds, and images of the right size none

        transform = create_transform(
            input_size=self.input_size,
            is_training=False,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
        )
        return cast("Callable[[Image.Image], Tensor]", transform)


def timm_preprocessing(pretrained_cfg: Mapping[str, Any], *, image_size: int | None = None) -> Preprocessing:
    """Reads the evaluation transform from a timm model's pretrained configuration.

    Args:
        pretrained_cfg: `module.pretrained_cfg` of a timm model.
        image_size: Height and width to use instead of the configured ones.

    Returns:
        The preprocessing.
    """
    from timm.data.config import resolve_data_config

    arguments: dict[str, Any] = {}
    if image_size is not None:
        channels = (pretrained_cfg.get("input_size") or (3, 224, 224))[0]
        arguments["input_size"] = (channels, image_size, image_size)
    resolve: Callable[..., dict[str, Any]] = resolve_data_config
    config = resolve(arguments, pretrained_cfg=dict(pretrained_cfg))
    return Preprocessing(
        input_size=tuple(config["input_size"]),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        interpolation=config["interpolation"],
        crop_pct=float(config["crop_pct"]),
        crop_mode=config["crop_mode"],
    )
