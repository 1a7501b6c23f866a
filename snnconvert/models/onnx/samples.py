"""Whether a network computes each sample of a batch by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnconvert.errors import SnnConvertError
from snnconvert.models.onnx.declarations import OnnxInput
from snnconvert.models.onnx.layers import OnnxNetwork

_SAMPLES = 3
_TOLERANCE = 1e-3
_ANY_SIZE = 64


def keeps_samples_apart(network: OnnxNetwork, inputs: Sequence[OnnxInput]) -> bool:
    """f([a, b]) = [f(a), f(b)] on random samples, for a network declared at batch 1."""
    generator = torch.Generator().manual_seed(0)
    batch = [_values(item, generator) for item in inputs]
    try:
        with torch.no_grad():
            whole = _listed(network.run(batch))
            single = [_listed(network.run([x[i : i + 1] for x in batch])) for i in range(_SAMPLES)]
    except SnnConvertError:
        return False
    parts = [torch.cat(outputs) for outputs in zip(*single, strict=True)]
    return all(_same(one, other) for one, other in zip(whole, parts, strict=True))


def _values(item: OnnxInput, generator: torch.Generator) -> Tensor:
    sizes = [_SAMPLES, *(_ANY_SIZE if size is None else size for size in item.shape[1:])]
    if item.dtype.is_floating_point:
        return torch.randn(sizes, generator=generator, dtype=item.dtype)
    return torch.randint(0, 2, sizes, generator=generator).to(item.dtype)


def _listed(results: Tensor | dict[str, Tensor]) -> list[Tensor]:
    return list(results.values()) if isinstance(results, dict) else [results]


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return bool((one.double() - other.double()).abs().max() <= _TOLERANCE * other.double().abs().max())
