"""What stays outside the converted parts of a model: its modules, and their multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_NOT_CHOSEN = "not among the parts"
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def outside_modules(model: nn.Module, parts: Sequence[str], reasons: Mapping[str, str]) -> dict[str, str]:
    """The modules that stay as they are, each with its reason.

    Args:
        model: the network.
        parts: names of the converted submodules.
        reasons: reasons for some modules, which hold for all inside them, too.

    Returns:
        Name to reason: of the modules with a reason of their own, of every other module outside the parts
        with parameters or without children, and of the model's own code.
    """
    found = dict(reasons)
    for name, module in model.named_modules():
        if not name or _is_inside(name, (*parts, *(place for place in reasons if place))) or _holds(name, parts):
            continue
        own = any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
        if own or not list(module.children()):
            found[name] = _NOT_CHOSEN
    found.setdefault("", "code of the model between its parts")
    return found


def _is_inside(name: str, places: Sequence[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _holds(name: str, parts: Sequence[str]) -> bool:
    return any(part.startswith(f"{name}.") for part in parts)


class OutsideMacs:
    """Counts the multiply-accumulates of layers outside the parts while the context lasts.

    Attributes:
        total: how many there were.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str]) -> None:
        kinds = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)
        self._modules = [
            module
            for name, module in model.named_modules()
            if isinstance(module, kinds) and not _is_inside(name, parts)
        ]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.total = 0

    def __enter__(self) -> None:
        self._handles = [module.register_forward_hook(self._hook()) for module in self._modules]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def count(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            counted = args[0] if isinstance(module, _TRANSPOSED) and args else output
            self.total += counted.numel() * math.prod(weight.shape[1:])

        return count
