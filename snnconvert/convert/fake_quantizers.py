"""fake_quantize(x) = s·(clip(rne(x/s) + o, low, high) − o), written out: torch has no shape rule for its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class WrittenOutQuantizers(TorchFunctionMode):
    """Computes torch's fake quantizers from elementwise operators while it is active."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Torch calls this in place of every function."""
        rule = _RULES.get(func)
        return func(*args, **(kwargs or {})) if rule is None else rule(*args, **(kwargs or {}))


def _per_tensor(
    input: Tensor, scale: Tensor | float, zero_point: Tensor | int, quant_min: int, quant_max: int
) -> Tensor:
    if isinstance(zero_point, Tensor):
        zero_point = zero_point.to(input.dtype)
    inverse = 1.0 / scale
    integers = torch.clamp(torch.round(input * inverse) + zero_point, quant_min, quant_max)
    return (integers - zero_point) * scale


def _per_channel(input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int) -> Tensor:
    shape = [-1 if dim == axis % input.dim() else 1 for dim in range(input.dim())]
    return _per_tensor(input, scale.view(shape), zero_point.view(shape), quant_min, quant_max)


_RULES: dict[Any, Callable[..., Tensor]] = {
    torch.fake_quantize_per_tensor_affine: _per_tensor,
    torch.fake_quantize_per_channel_affine: _per_channel,
}
