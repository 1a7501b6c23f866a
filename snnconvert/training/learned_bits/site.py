"""One family of neurons while their step, bits and time steps are learned."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from snnconvert.calibration.statistics.histogram import fixed_subset
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.packed import PackedCode
from snnconvert.neurons.threshold import Threshold
from snnconvert.neurons.word import MAX_WORD_BITS
from snnconvert.training.learned_bits.quantizer import Levels, quantize, spike_levels
from snnconvert.training.learned_bits.refined_neuron import refined_neuron
from snnconvert.training.learned_bits.renewal import searched_step
from snnconvert.training.learned_bits.width import Width

_LEAST_SAMPLE, _SAMPLE = 64, 1 << 15


class SpikeWidth(nn.Module):
    """b_s and T of a group of neurons; packed words of b_s·T bits hold at most 8."""

    def __init__(self, bits: Width, T: Width, *, packed: bool) -> None:
        super().__init__()
        self.bits, self.T, self.packed = bits, T, packed

    @property
    def rounded(self) -> tuple[int, int]:
        """b̂_s and T̂; packed neurons take no more time steps than fit the word."""
        bits, T = self.bits.rounded, self.T.rounded
        return (bits, min(T, MAX_WORD_BITS // bits)) if self.packed else (bits, T)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The same with gradients."""
        bits, T = self.bits(), self.T()
        return bits, T + (self.rounded[1] - T.detach())


class LearnedSite(nn.Module):
    """What the spikes of a family of sites stand for, at the group's widths.

    Packed neurons: one quantizer of 2^(b_s·T) levels, half to even. Neurons "if": the refined neuron with γ = T·Δ,
    T·(2^b_s − 1) + 1 levels, half up. Neurons of signed values keep the share of their levels below zero.

    Parameters:
        log_step: ln Δ, of the largest Δ_c where channels have steps of their own.
    """

    fitted: Tensor

    def __init__(self, threshold: Threshold, trials: int, *, learned: bool) -> None:
        """Starts from a calibrated threshold.

        Args:
            threshold: the threshold.
            trials: ranges tried where the step is searched.
            learned: whether the step is trained.
        """
        super().__init__()
        self._threshold, self._trials, self._learned = threshold, trials, learned
        code = threshold.code
        self._offset_share = code.offset / code.largest_value if code.offset else 0.0
        self.log_step = nn.Parameter(torch.tensor(math.log(threshold.step)), requires_grad=learned)
        self.register_buffer("fitted", torch.tensor([code.bits, code.T]))
        self._seen: Tensor | None = None

    def code_at(self, bits: int, T: int) -> SpikeCode:
        """The code at a width, with the zero point that its levels have."""
        code = self._threshold.code
        if (bits, T) == (code.bits, code.T):
            return code
        plain = dataclasses.replace(code, bits=bits, T=T, offset=0)
        offset = min(round(self._offset_share * plain.largest_value), math.floor(plain.largest_value))
        return dataclasses.replace(plain, offset=plain.zero_point_near(offset)) if offset else plain

    def threshold_at(self, bits: int, T: int, step: float) -> Threshold:
        """The threshold at a width and the largest step."""
        old, code = self._threshold, self.code_at(bits, T)
        if not self._learned:
            return old
        if not old.channel_steps:
            return Threshold(step, code)
        return Threshold.per_channel((item / old.step * step for item in old.channel_steps), code, old.channel_shifts)

    def step(self) -> Tensor:
        """Δ with gradients."""
        return self.log_step.exp()

    def see(self, values: Tensor, pattern: Tensor) -> None:
        """Keeps some values, for when the step is searched.

        Args:
            values: x, [N, ...].
            pattern: Δ_c/Δ, broadcastable to them.
        """
        most = max(_LEAST_SAMPLE, _SAMPLE // len(values))
        flat = fixed_subset(values.detach().flatten(1), most)
        scale = pattern if pattern.numel() == 1 else fixed_subset(pattern.expand_as(values[:1]).flatten(1), most)
        self._seen = (flat / scale).reshape(1, -1)

    def fit(self, bits: int, T: int) -> None:
        """Searches the step anew for a width, on the values seen last; without any it stays.

        Args:
            bits: b_s.
            T: time steps.
        """
        if self._seen is None or not self._learned:
            return
        code = self.code_at(bits, T)
        levels = Levels(code.minimum, code.maximum, 0.0, 0.0)
        with torch.no_grad():
            self.log_step.copy_(searched_step(self._seen, levels, self._trials).log()[0])
            self.fitted.copy_(torch.tensor([bits, T]))

    def fire(self, values: Tensor, steps: Tensor, width: SpikeWidth, cap: float | None) -> Tensor:
        """What the spikes of a window stand for.

        Args:
            values: x.
            steps: Δ or Δ_c, broadcastable to them.
            width: b_s and T.
            cap: the upper clip of the rectifier whose place the neurons take.
        """
        bits, T = width.rounded
        bits_through, T_through = width()
        code = self.code_at(bits, T)
        if isinstance(code, PackedCode):
            levels = spike_levels(bits * T, self._offset_share, code.offset)
            return quantize(values, steps, bits_through * T_through, _capped(levels, code, cap, steps))
        return self._counted(values, steps, (bits_through, T_through), code, cap)

    def _counted(
        self, values: Tensor, steps: Tensor, width: tuple[Tensor, Tensor], code: SpikeCode, cap: float | None
    ) -> Tensor:
        zero = code.offset * steps
        fired = refined_neuron(values + zero, steps * code.T, *width, spike_levels(code.bits, half_up=True)) - zero
        if cap is None:
            return fired
        return torch.minimum(fired, steps * float(code.ceiling_at(cap / float(steps.detach().max()))))


def _capped(levels: Levels, code: SpikeCode, cap: float | None, steps: Tensor) -> Levels:
    if cap is None:
        return levels
    ceiling = code.ceiling_at(cap / float(steps.detach().max()))
    return levels if ceiling >= levels.high else dataclasses.replace(levels, high=float(ceiling), high_slope=0.0)
