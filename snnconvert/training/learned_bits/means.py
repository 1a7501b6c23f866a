"""Means of learned widths: the penalty on them, when renewals end, and where they settle."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from snnconvert.errors import ConfigurationError
from snnconvert.training.learned_bits.config import LearnedBitsConfig
from snnconvert.training.learned_bits.layout import Layout
from snnconvert.training.learned_bits.renewal import is_near
from snnconvert.training.learned_bits.site import SpikeWidth
from snnconvert.training.learned_bits.width import Width, settled_widths


class Means:
    """b̄_w, b̄_s and T̄ over the groups whose widths are learned.

    b̄_w is weighted by how many weights a layer has, b̄_s and T̄ by how many values are read; or all by
    multiply-accumulates, as the settings say.
    """

    def __init__(
        self, config: LearnedBitsConfig, layout: Layout, weight_widths: nn.ModuleList, spike_widths: nn.ModuleList
    ) -> None:
        by_macs = config.weighting == "macs"
        weights = [
            (width, float(group.macs if by_macs else group.weights))
            for group, width in zip(layout.weights, weight_widths, strict=True)
            if group.learned and isinstance(width, Width)
        ]
        spikes = [
            (width, float(group.macs if by_macs else group.values))
            for group, width in zip(layout.spikes, spike_widths, strict=True)
            if group.learned and isinstance(width, SpikeWidth)
        ]
        self._config = config
        self._spike_widths = [width for width, _ in spikes]
        self._weights = _Mean(weights, config.target_weight_bits, "target_weight_bits")
        self._bits = _Mean(
            [(width.bits, size) for width, size in spikes], config.target_spike_bits, "target_spike_bits"
        )
        self._times = _Mean([(width.T, size) for width, size in spikes], config.target_T, "target_T")

    def penalty(self) -> Tensor:
        """p_w·|b̄_w − tar_w| + p_s·|b̄_s − tar_s| + p_T·|T̄ − tar_T| of the rounded widths, with gradients."""
        parts = (
            (self._config.weight_penalty, self._weights),
            (self._config.spike_penalty, self._bits),
            (self._config.T_penalty, self._times),
        )
        return torch.stack([factor * mean.distance() for factor, mean in parts]).sum()

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Those of bits, and those of time steps, that are still learned."""
        bits = [width.value for mean in (self._weights, self._bits) for width in mean.widths if width.is_learned]
        return bits, [width.value for width in self._times.widths if width.is_learned]

    def rounded(self) -> tuple[float, float, float]:
        """b̄_w, b̄_s and T̄."""
        return self._weights.rounded(), self._bits.rounded(), self._times.rounded()

    def weights_near(self) -> bool:
        """Whether b̄_w is near its target."""
        return self._weights.is_near(self._config.renewal_margin)

    def spikes_near(self) -> bool:
        """Whether b̄_s and T̄ are near theirs."""
        margin = self._config.renewal_margin
        return self._bits.is_near(margin) and self._times.is_near(margin)

    def settle(self) -> None:
        """Fixes all widths at whole numbers with means of at most the targets, where these can be met."""
        for width in self._spike_widths:
            width.T.settle(width.rounded[1])
        for mean in (self._weights, self._times, self._bits):
            mean.settle()


class _Mean:
    def __init__(self, widths: Iterable[tuple[Width, float]], target: float, name: str) -> None:
        listed = list(widths)
        total = sum(size for _, size in listed)
        self.widths, self._shares = [width for width, _ in listed], [size / total for _, size in listed]
        self._target = target
        self._initial = sum(width.initial * share for width, share in zip(self.widths, self._shares, strict=True))
        most = sum(width.most * share for width, share in zip(self.widths, self._shares, strict=True))
        if listed and target > most + 1e-9:
            raise ConfigurationError(
                f"{name} {target:g} is out of reach: widths that start at {self._initial:g} grow to {most:g} at most"
            )

    def distance(self) -> Tensor:
        if not self.widths:
            return torch.zeros(())
        mean = torch.stack([width() * share for width, share in zip(self.widths, self._shares, strict=True)]).sum()
        return (mean - self._target).abs()

    def rounded(self) -> float:
        if not self.widths:
            return float("nan")
        return sum(width.rounded * share for width, share in zip(self.widths, self._shares, strict=True))

    def is_near(self, margin: float) -> bool:
        return not self.widths or is_near(self.rounded(), self._target, self._initial, margin)

    def settle(self) -> None:
        values, most = [float(width.value.detach()) for width in self.widths], [width.most for width in self.widths]
        for width, whole in zip(self.widths, settled_widths(values, self._shares, self._target, most), strict=True):
            width.settle(whole)
