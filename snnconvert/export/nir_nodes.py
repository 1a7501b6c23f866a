"""Nodes of the Neuromorphic Intermediate Representation (NIR), and the graph they are collected in."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnconvert.errors import InputError

Array = NDArray[np.floating[Any]]
Shape = tuple[int, ...]


def nir_package() -> Any:
    """The nir package.

    Raises:
        InputError: if it isn't installed, naming the extra.
    """
    try:
        return importlib.import_module("nir")
    except ImportError:
        raise InputError("NIR needs the nir package: pip install 'snnconvert[nir]'") from None


class NirBuilder:
    """Collects nodes and edges; every incoming edge of a node adds to its input.

    Attributes:
        dtype: floating type of all parameters.
        nodes: nodes by name.
        edges: (source, target) names.
    """

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self.nir = nir_package()
        self.dtype = dtype
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: Any, sources: Sequence[str]) -> str:
        """Adds a node under a unique name made of letters, digits and underscores, and its incoming edges."""
        plain = "n_" + re.sub(r"\W", "_", name)
        unique, count = plain, 1
        while unique in self.nodes:
            count += 1
            unique = f"{plain}_{count}"
        self.nodes[unique] = node
        self.edges += [(source, unique) for source in sources]
        return unique

    def convolution(self, weight: Array, bias: Array, sizes: dict[str, Any], size: tuple[int, int]) -> Any:
        """A convolution of [C, H, W] with weight [O, C, k, k], groups already spread out."""
        return self.nir.Conv2d(
            input_shape=size,
            weight=weight.astype(self.dtype),
            stride=sizes["stride"],
            padding=sizes["padding"],
            dilation=sizes["dilation"],
            groups=1,
            bias=bias.astype(self.dtype),
        )

    def affine(self, weight: Array, bias: Array) -> Any:
        """weight·x + bias of flat values, weight [O, I]."""
        return self.nir.Affine(weight=weight.astype(self.dtype), bias=bias.astype(self.dtype))

    def diagonal(self, factors: Array, bias: Array, shape: Shape) -> Any:
        """factor_c·x_c + bias_c for each channel c of [C, H, W] or [C]."""
        if len(shape) == 1:
            return self.affine(np.diag(factors), bias)
        sizes = {"stride": 1, "padding": 0, "dilation": 1}
        return self.convolution(np.diag(factors)[:, :, None, None], bias, sizes, (shape[1], shape[2]))

    def neurons(self, threshold: float, shape: Shape) -> Any:
        """Binary integrate-and-fire neurons, v ← v + x, s = [v > θ], v ← 0 where s."""
        ones = np.ones(shape, self.dtype)
        return self.nir.IF(r=ones, v_threshold=self.dtype(threshold) * ones, v_reset=0 * ones)

    def average_pool(self, kernel: Shape, stride: Shape) -> Any:
        """Mean over windows without padding."""
        return self.nir.AvgPool2d(np.array(kernel), np.array(stride), np.array((0, 0)))

    def sum_pool(self, kernel: Shape, stride: Shape) -> Any:
        """Sum over windows without padding."""
        return self.nir.SumPool2d(np.array(kernel), np.array(stride), np.array((0, 0)))

    def flatten(self, shape: Shape) -> Any:
        """[C, H, W] as one vector."""
        return self.nir.Flatten({"input": np.array(shape)}, 0, -1)
