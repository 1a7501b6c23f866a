"""What an inference BatchNorm knows about its output: mean and variance of each channel, from training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

_STATISTICS = "batch statistics"


@dataclass(frozen=True, eq=False)
class BatchStatistics:
    """Mean and variance of the channels (dimension 1) of a value, over the images a network was trained on.

    A BatchNorm γ·(x − μ)/√(σ² + ε) + β whose input has its running mean μ and variance σ² gives values of mean β and
    variance γ²·σ²/(σ² + ε).

    Attributes:
        mean: float64 [C], on the CPU.
        variance: float64 [C], on the CPU.
    """

    mean: Tensor
    variance: Tensor

    def transformed(self, scale: Tensor, shift: Tensor) -> BatchStatistics:
        """Those of scale·x + shift, each [C]."""
        scale, shift = scale.double().cpu(), shift.double().cpu()
        return BatchStatistics(self.mean * scale + shift, self.variance * scale.square())


def set_statistics(node: fx.Node, statistics: BatchStatistics | None) -> None:
    """Keeps what is known of a node's value with the node; None forgets it."""
    node.meta.pop(_STATISTICS, None)
    if statistics is not None:
        node.meta[_STATISTICS] = statistics


def statistics_of(node: fx.Node) -> BatchStatistics | None:
    """What a BatchNorm that was folded into a node knows of the node's value; None without one."""
    found = node.meta.get(_STATISTICS)
    return found if isinstance(found, BatchStatistics) else None


def is_untrained(mean: Tensor, variance: Tensor) -> bool:
    """Whether running statistics tell nothing: a BatchNorm starts with such, and has them where it was folded away."""
    return not bool(mean.any()) and bool((variance == variance.flatten()[0]).all())


def normalized(mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> BatchStatistics | None:
    """Of scale·x + shift, where x has a running mean and variance; None if these were never learned."""
    if is_untrained(mean, variance):
        return None
    return BatchStatistics(mean.double().cpu(), variance.double().cpu()).transformed(scale, shift)


def known_nodes(graph: fx.Graph) -> dict[str, BatchStatistics]:
    """The statistics of all nodes that have some, by node name."""
    found = {node.name: statistics_of(node) for node in graph.nodes}
    return {name: item for name, item in found.items() if item is not None and bool(torch.isfinite(item.mean).all())}
