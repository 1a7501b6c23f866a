"""What the surfaces of the scenes look like: smooth random fields, stripes, light and noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_DARKEST, _LIGHTEST = 0.05, 0.95
_CANDIDATES = 3
_GRADIENT, _SHADING = 0.2, 0.12
_FEWEST_CELLS, _MOST_CELLS = 4, 20
_WEAKEST, _STRONGEST = 0.02, 0.12
_STRIPES, _STRIPED_SHARE = 0.08, 0.3
_DIMMEST, _BRIGHTEST = 0.5, 1.2
_LEAST_NOISE, _MOST_NOISE = 0.01, 0.05


def smooth_field(rng: np.random.Generator, size: int, cells: int, channels: int) -> Values:
    """Values in −1..1 at the nodes of a grid, interpolated linearly between them.

    Args:
        rng: of the values.
        size: pixels of a side.
        cells: nodes of a side of the grid; 2 give a gradient.
        channels: fields.

    Returns:
        float64 [channels, size, size].
    """
    nodes = rng.uniform(-1, 1, (channels, cells, cells))
    position = np.linspace(0, cells - 1, size)
    weights = np.clip(1 - np.abs(position[:, None] - np.arange(cells)[None, :]), 0, 1)
    field: Values = weights @ nodes @ weights.T
    return field


def background(rng: np.random.Generator, size: int) -> tuple[Values, Values]:
    """A gradient of colours with a texture on it.

    Args:
        rng: of everything random.
        size: pixels of a side.

    Returns:
        float64 [3, size, size], and its mean colour [3].
    """
    base = rng.uniform(_DARKEST, _LIGHTEST, 3)
    cells = int(rng.integers(_FEWEST_CELLS, _MOST_CELLS + 1))
    texture = rng.uniform(_WEAKEST, _STRONGEST) * smooth_field(rng, size, cells, 1)
    return base[:, None, None] + _GRADIENT * smooth_field(rng, size, 2, 3) + texture, base


def surface(rng: np.random.Generator, size: int, behind: Values) -> Values:
    """A shaded, sometimes striped colour that differs from another one.

    Args:
        rng: of everything random.
        size: pixels of a side.
        behind: the other colour [3]; the farthest of three random ones from it is taken.

    Returns:
        float64 [3, size, size].
    """
    candidates = rng.uniform(_DARKEST, _LIGHTEST, (_CANDIDATES, 3))
    colour = candidates[np.abs(candidates - behind).sum(1).argmax()]
    shaded: Values = colour[:, None, None] + _SHADING * smooth_field(rng, size, 2, 1)
    waves, direction, phase, kind = rng.uniform(6, 20), *rng.uniform(0, 2 * math.pi, 2), rng.uniform()
    if kind < _STRIPED_SHARE:
        side = np.arange(size) / size
        along = math.cos(direction) * side[None, :] + math.sin(direction) * side[:, None]
        shaded = shaded + _STRIPES * np.sin(2 * math.pi * waves * along + phase)
    return shaded


def exposed(rng: np.random.Generator, image: Values) -> NDArray[np.float32]:
    """The image under another light, clip(gain·image + noise, 0, 1).

    Args:
        rng: of the gain and the Gaussian noise.
        image: [3, size, size].

    Returns:
        float32 of the same shape.
    """
    gain, deviation = rng.uniform(_DIMMEST, _BRIGHTEST), rng.uniform(_LEAST_NOISE, _MOST_NOISE)
    lit = gain * image + deviation * rng.standard_normal(image.shape)
    return np.clip(lit, 0, 1).astype(np.float32)
