"""Calibration without data: synthesized images take the place of those nobody has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from snnconvert.calibration.distillation import distilled
from snnconvert.convert.batch_statistics import known_nodes
from snnconvert.convert.signature import Signature
from snnconvert.data.synthetic import dead_leaves
from snnconvert.errors import InputError
from snnconvert.inputs import Inputs

SYNTHESIZED = "synthesized images"
_FEWEST, _MOST, _PIXELS = 16, 64, 1 << 20
_FEWEST_STEPS, _MOST_STEPS, _STEP_MACS = 8, 50, 10**12
_USUAL = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
_ASSUMPTIONS = {True: "ImageNet's normalization", False: "values in 0..1"}
_MOST_CHANNELS = 16


@dataclass(frozen=True, eq=False)
class NoData:
    """Given to :func:`snnconvert.convert` in place of calibration data: synthesized images calibrate the network.

    Where the network has trained BatchNorm layers, the images are optimized until these see the statistics of their
    training data; that gives thresholds close to those of real images. Elsewhere, in transformers or where BatchNorm
    was folded into the weights before, the images only have the low-level statistics of photographs: calibrate on
    real images where there are some, even a few.

    Attributes:
        example: input images [N, C, H, W], or the arguments of one call: their shape and type count, not their values.
        mean: subtracted from each channel of an image in 0..1 before the network sees it; by default ImageNet's for
            colour images, and values in 0..1 are assumed for others.
        std: divides each channel after that; to be given together with the mean.
    """

    example: Tensor | Inputs
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.example, (Tensor, Inputs)):
            raise InputError(f"the example is {type(self.example).__name__}: give a tensor [N, C, H, W]")
        if (self.mean is None) != (self.std is None):
            raise InputError("mean and std belong together: give both or none")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise InputError(f"std must be positive, got {list(self.std)}")

    def normalization(self, channels: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel, [C, 1, 1].

        Raises:
            InputError: if there are not as many as channels.
        """
        usual = _USUAL.get(channels, ((0.0,) * channels, (1.0,) * channels))
        mean, std = (self.mean, self.std) if self.mean is not None and self.std is not None else usual
        if len(mean) != channels or len(std) != channels:
            raise InputError(f"mean and std have {len(mean)} and {len(std)} values, the images {channels} channels")
        return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)


@dataclass(frozen=True)
class Synthesis:
    """Synthesized inputs.

    Attributes:
        images: float32 [N, C, H, W], prepared for the network.
        note: what they are, for the report.
    """

    images: Tensor
    note: str


def synthesize(
    graph_module: fx.GraphModule,
    signature: Signature,
    data: NoData,
    macs: int,
    device: torch.device,
    seed: int,
    watched: Callable[[range], Iterable[int]] = iter,
) -> Synthesis:
    """Makes the images to calibrate a network on: dead leaves, distilled where BatchNorm statistics are known.

    There are 16 to 64 of them, 2^20 pixels where possible; 8 to 50 steps of optimization, at most 10^12
    multiply-accumulates (each counted once forward) where possible.

    Args:
        graph_module: the canonical graph.
        signature: how the network is called.
        data: the images' normalization.
        macs: multiply-accumulates of one image.
        device: where the graph lives.
        seed: of the images.
        watched: steps of the optimization behind a progress bar.

    Raises:
        InputError: if the network takes anything else than one batch of images.
    """
    size = _image_size(signature)
    mean, std = (values.to(device) for values in data.normalization(size[0]))
    count = min(max(_PIXELS // (size[1] * size[2]), _FEWEST), _MOST)
    pixels = dead_leaves(count, size, torch.Generator().manual_seed(seed)).to(device)
    statistics = known_nodes(graph_module.graph)
    assumed = "" if data.mean is not None else f", {_ASSUMPTIONS[size[0] in _USUAL]} assumed"
    what = f"calibrated without data: on {count} {SYNTHESIZED} (seed {seed}{assumed})"
    if not statistics:
        note = f"{what}; there are no BatchNorm statistics to match, so that thresholds fit real images less well"
        return Synthesis((pixels - mean) / std, note)
    steps = min(max(_STEP_MACS // max(count * macs, 1), _FEWEST_STEPS), _MOST_STEPS)
    pixels = distilled(graph_module, statistics, pixels, lambda x: (x - mean) / std, steps, watched)
    layers = f"{len(statistics)} BatchNorm layer{'s' if len(statistics) > 1 else ''}"
    note = f"{what}, matched to the statistics of {layers} in {steps} steps"
    return Synthesis((pixels - mean) / std, note)


def _image_size(signature: Signature) -> tuple[int, int, int]:
    """C, H, W of the network's only input.

    Raises:
        InputError: if it takes something else.
    """
    spec = signature.one_input
    if spec is None or len(spec.traced) != 3:
        given = ", ".join(f"{item.name}: {item}" for item in signature.tensors)
        raise InputError(
            f"the network takes {given}: only images [N, C, H, W] can be synthesized, give calibration data instead"
        )
    channels, height, width = spec.traced
    if not 1 <= channels <= _MOST_CHANNELS:
        raise InputError(
            f"the network takes {spec}: only images of 1 to {_MOST_CHANNELS} channels can be synthesized, "
            "give calibration data instead"
        )
    return channels, height, width
