"""The shapes of the scenes: circles, squares, triangles and stars of equal area, by their distances from the edge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

SHAPES = ("circle", "square", "triangle", "star")
_CORNERS = {"square": 4, "triangle": 3}
_POINTS = 5
_INNER_SHARE = 0.5


@dataclass(frozen=True)
class Shape:
    """Where a shape lies, in pixels; every kind of one radius has the area π·radius².

    Attributes:
        kind: one of ``SHAPES``.
        x: column of the centre; the left edge of the image is 0, the centre of its first pixel 0.5.
        y: row of the centre.
        radius: of the circle with the same area.
        angle: by which it is turned, in radians.
    """

    kind: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def area(self) -> float:
        """Square pixels it would cover without edges of the image or other shapes."""
        return math.pi * self.radius**2

    def coverage(self, size: int) -> Values:
        """About how much of each pixel it covers: clip(½ − d, 0, 1), d from the pixel's centre to the edge, inside < 0.

        Args:
            size: pixels of a side of the image.

        Returns:
            float64 [size, size] in 0..1.
        """
        centres = np.arange(size) + 0.5
        across, down = centres[None, :] - self.x, centres[:, None] - self.y
        distance = _distance(self.kind, self.radius, np.hypot(across, down), np.arctan2(down, across) - self.angle)
        covered: Values = np.clip(0.5 - distance, 0, 1)
        return covered


def _distance(kind: str, radius: float, away: Values, angle: Values) -> Values:
    """Signed distances of points in polar coordinates from the nearest edge's line, negative inside."""
    if kind == "circle":
        return away - radius
    if kind == "star":
        return _star_distance(radius, away, angle)
    sector = 2 * math.pi / _CORNERS[kind]
    apothem = radius * math.sqrt(math.pi / (_CORNERS[kind] * math.tan(sector / 2)))
    return away * np.cos(angle % sector - sector / 2) - apothem


def _star_distance(radius: float, away: Values, angle: Values) -> Values:
    sector = 2 * math.pi / _POINTS
    outer = radius * math.sqrt(math.pi / (_POINTS * _INNER_SHARE * math.sin(sector / 2)))
    inner = outer * _INNER_SHARE
    # Folded into the half of one point: the edge runs from (outer, 0) to the notch.
    folded = np.abs((angle + sector / 2) % sector - sector / 2)
    notch_x, notch_y = inner * math.cos(sector / 2), inner * math.sin(sector / 2)
    along_x, along_y = notch_x - outer, notch_y
    beyond_x, beyond_y = away * np.cos(folded) - outer, away * np.sin(folded)
    distance: Values = (beyond_x * along_y - beyond_y * along_x) / math.hypot(along_x, along_y)
    return distance
