"""What one call of a model is given: positional and keyword inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, init=False, eq=False)
class Inputs:
    """The arguments of one call: ``Inputs(a, b, mask=m)`` stands for ``model(a, b, mask=m)``.

    A calibration loader may give these where a tensor, an (input, label) pair or a dict isn't enough.

    Attributes:
        args: positional arguments: tensors, or lists, tuples and dicts of tensors; numbers and None are constants.
        kwargs: keyword arguments.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", kwargs)
