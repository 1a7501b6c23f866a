"""Images that a network's BatchNorms take for their training data: x ← x − η·∇L(x), L the distance of statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.convert.batch_statistics import BatchStatistics

_RATE = 0.05
_SMALLEST_DEVIATION = 0.01
_TINY = 1e-8


class _Watcher(fx.Interpreter):
    """Runs a graph and keeps the distance of some nodes' statistics from what they should be."""

    def __init__(self, graph_module: fx.GraphModule, wanted: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__(graph_module)
        self.extra_traceback = False
        self._wanted = wanted
        self.distances: list[Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._wanted:
            self.distances.append(_distance(value, *self._wanted[n.name]))
        return value


def distilled(
    graph_module: fx.GraphModule,
    statistics: Mapping[str, BatchStatistics],
    pixels: Tensor,
    prepare: Callable[[Tensor], Tensor],
    iterations: int,
    watched: Callable[[range], Iterable[int]] = iter,
) -> Tensor:
    """Changes images until each BatchNorm's channels have the mean and variance they had in training.

    L(x) = mean over BatchNorms and channels of ((m − μ)/σ)² + (s/σ − 1)², with m and s of the whole batch x, is
    lowered by Adam with a cosine schedule; pixels stay in 0..1. Deterministic.

    Source: ZeroQ (Cai et al., CVPR 2020) and DeepInversion (Yin et al., CVPR 2020); without their priors, as the
    images are not to be looked at.

    Args:
        graph_module: the canonical graph.
        statistics: wanted mean and variance of nodes' channels (dimension 1), by node name; at least one.
        pixels: float32 [N, C, H, W] in 0..1 to start from, on the graph's device.
        prepare: from pixels to the network's input.
        iterations: gradient steps, at least 1.
        watched: the same numbers behind a progress bar.

    Returns:
        The images with the smallest L seen, as pixels.
    """
    device = pixels.device
    wanted = {name: _scaled(item, device) for name, item in statistics.items()}
    best, smallest = pixels.clone(), math.inf
    images = pixels.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([images], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for step in watched(range(iterations + 1)):
        with torch.enable_grad():
            watcher = _Watcher(graph_module, wanted)
            watcher.run(prepare(images))
            loss = torch.stack(watcher.distances).mean()
        if (value := float(loss.detach())) < smallest:
            best, smallest = images.detach().clone(), value
        if step == iterations or not math.isfinite(value):
            break
        (images.grad,) = torch.autograd.grad(loss, images)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return best


def _scaled(item: BatchStatistics, device: torch.device) -> tuple[Tensor, Tensor]:
    """Means and deviations; those of channels that hardly vary are raised, so that they don't drown the others."""
    deviation = item.variance.clamp(min=0).sqrt()
    deviation = deviation.clamp(min=max(_SMALLEST_DEVIATION * float(deviation.mean()), _TINY))
    return item.mean.float().to(device), deviation.float().to(device)


def _distance(value: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    others = [dim for dim in range(value.dim()) if dim != 1]
    means = value.mean(others)
    deviations = (value.var(others, correction=0) + _TINY).sqrt()
    return (((means - mean) / deviation).square() + (deviations / deviation - 1).square()).mean()
