"""Histograms weighted by squared gradients: E[(∂L/∂x)²·(x − Q(x))²] instead of E[(x − Q(x))²].

The gradients are those of random projections L = Σ r_j·y_j of the network's outputs y with r_j = ±1, so that
E_r[(∂L/∂x)²] = Σ_j (∂y_j/∂x)², the diagonal of the Gauss-Newton matrix of the squared output error: no labels are
needed. Source: the diagonal Fisher weighting of post-training quantization (BRECQ, ICLR 2021); the projections are a
reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.statistics.histogram import BINS, bins_of, fixed_subset, keys_of
from snnconvert.calibration.thresholds.mse import Bins
from snnconvert.errors import ConversionError

_PROJECTIONS = 2


class _Watcher(fx.Interpreter):
    """Runs a graph so that gradients reach the values of some nodes."""

    def __init__(self, graph_module: fx.GraphModule, names: frozenset[str]) -> None:
        super().__init__(graph_module)
        self.extra_traceback = False
        self._names = names
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._names and isinstance(value, Tensor) and value.is_floating_point():
            value = value if value.requires_grad else value.detach().requires_grad_()
            self.values[n.name] = value
        return value


def gradient_weighted(
    graph_module: fx.GraphModule, calls: Sequence[Sequence[Tensor]], groups: Mapping[str, int], seed: int
) -> dict[int, Bins]:
    """Weighted histograms of nodes' values on a sample.

    Args:
        graph_module: the canonical graph.
        calls: the tensors of each call, in a fixed order.
        groups: the group of each observed node, by name; those of one group share a histogram.
        seed: of the projections.

    Returns:
        Lower edges, upper edges and weights of the occupied bins of each group that gradients reach.

    Raises:
        ConversionError: if no output is a floating tensor.
    """
    weights = {group: torch.zeros(2, BINS, dtype=torch.float64) for group in groups.values()}
    generator = torch.Generator().manual_seed(seed)
    for leaves in calls:
        watcher = _Watcher(graph_module, frozenset(groups))
        with torch.enable_grad():
            outputs = _floating(watcher.run(*leaves))
            if not outputs:
                raise ConversionError(
                    "threshold fisher needs gradients of the network's outputs, and none is a floating tensor: "
                    "choose another threshold"
                )
            _add_gradients(watcher.values, outputs, groups, weights, generator)
    return {group: bins_of(counts) for group, counts in weights.items() if bool((counts > 0).any())}


def _add_gradients(
    values: Mapping[str, Tensor],
    outputs: Sequence[Tensor],
    groups: Mapping[str, int],
    weights: Mapping[int, Tensor],
    generator: torch.Generator,
) -> None:
    reached = [output for output in outputs if output.requires_grad]
    names = [name for name in groups if name in values]
    if not reached or not names:
        return
    for index in range(_PROJECTIONS):
        signs = [torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1 for output in reached]
        gradients = torch.autograd.grad(
            reached, [values[name] for name in names], signs, retain_graph=index + 1 < _PROJECTIONS, allow_unused=True
        )
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                _count(weights[groups[name]], values[name].detach(), gradient)


def _count(weights: Tensor, values: Tensor, gradient: Tensor) -> None:
    flat = [part.flatten(1) if part.dim() > 1 else part.unsqueeze(1) for part in (values, gradient)]
    subset, slope = (fixed_subset(part).float().contiguous() for part in flat)
    squared = torch.nan_to_num(slope.double().square(), posinf=0.0).flatten()
    weights += torch.bincount(keys_of(subset).flatten(), squared, minlength=2 * BINS).view(2, BINS).cpu()


def _floating(output: Any) -> list[Tensor]:
    """The floating tensors in an output of nested containers."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _floating(part)]
