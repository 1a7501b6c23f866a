"""Steps between one for all channels and one for each: as different as the weights that read the spikes can bear.

Spikes of steps Δ_c are read with weights W_oc·Δ_c, which share one scale an output channel. Steps that follow the
channels lose least in rounding activations, but spread the weights' range and so lose more in rounding weights.
Candidates are

    Δ_c = k · δ_c^α · Δ^(1−α) · r_c^(−β),        r_c = max_o |W_oc| / max_c' |W_oc'|,

δ_c being the steps chosen channel by channel and Δ the one chosen for all; that of least predicted noise is taken. α
moves difficulty from activations to weights as SmoothQuant does (Xiao et al., ICML 2023), β equalizes the weights'
columns as cross-layer equalization does (Nagel et al., ICCV 2019). Predicting the noise, instead of fixing α, is this
package's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snnconvert.calibration.statistics.channel_histogram import ChannelHistogram, FloatArray
from snnconvert.calibration.thresholds.channels import capped_steps, channel_errors, channel_powers
from snnconvert.calibration.thresholds.shifts import middles_of, shifts_of
from snnconvert.convert.units import IntArray
from snnconvert.convert.weights import nearest_representable
from snnconvert.neurons.code import SpikeCode
from snnconvert.neurons.threshold import Threshold

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_EQUALIZERS = (0.0, 0.25, 0.5)
_LEVELS = np.geomspace(0.6, 1.6, 9)
_MOST_OUTPUTS = 256
_LEAST = 1e-300


@dataclass(frozen=True)
class SpikeReader:
    """Weights that read a site's spikes.

    Attributes:
        weight: [O, I, K], in the ANN's units; K places of a kernel.
        channels: int64 [O, I], the site's channel each one reads; -1 where only padding is.
        weight_bits: bits the weights are rounded to.
    """

    weight: Tensor
    channels: IntArray
    weight_bits: int

    def columns(self, channels: int) -> FloatArray:
        """Σ_o,k W² of each of the site's channels, [channels]."""
        sums = np.zeros(channels + 1)
        np.add.at(sums, self.channels, self.weight.double().square().sum(-1).cpu().numpy())
        return sums[:-1]

    def largest_shares(self, channels: int) -> FloatArray:
        """r_c of each of the site's channels, 0 of those it doesn't read."""
        largest = self.weight.abs().amax(-1).double()
        shares = (largest / largest.amax(1, keepdim=True).clamp(min=_LEAST)).cpu().numpy()
        found = np.zeros(channels + 1)
        np.maximum.at(found, self.channels, shares)
        return found[:-1]

    def rounding_noise(self, steps: FloatArray, powers: FloatArray) -> float:
        """Σ (W − Ŵ)²·E[x_c²] with Ŵ the weights rounded to integers in units of these steps."""
        scale = torch.from_numpy(np.append(steps, 1.0)[self.channels]).unsqueeze(-1)
        folded = (self.weight.double().cpu() * scale).float()
        rounded = nearest_representable(folded, torch.zeros(len(folded)), self.weight_bits)
        noise = ((rounded - folded.double()) / scale).square().sum(-1).numpy()
        return float(noise.ravel() @ np.append(powers, 0.0)[self.channels].ravel())


def thinned(reader: SpikeReader) -> SpikeReader:
    """The same with at most 256 of its output channels, evenly spaced."""
    stride = -(-len(reader.weight) // _MOST_OUTPUTS)
    return SpikeReader(reader.weight[::stride], reader.channels[::stride], reader.weight_bits)


def smoothed(
    shared: Threshold,
    separate: Threshold,
    histogram: ChannelHistogram,
    readers: Sequence[SpikeReader],
    cap: FloatArray | float | None = None,
) -> Threshold:
    """The threshold per channel of least predicted noise in what reads it.

    Where channels of ``separate`` are shifted the middles of their ranges stay, and each has a shift that puts the
    middle of the code there, or none if that is better.

    A reader's noise is Σ_c (Σ_o W_oc²)·E[(x_c − Q(x_c))²] + Σ (W − Ŵ)²·E[(x_c − s_c)²], in parts of its signal
    Σ_c (Σ_o W_oc²)·E[x_c²]; what is subtracted, s_c, is 0 without shifts.

    Args:
        shared: the threshold for all channels.
        separate: that of each channel.
        histogram: statistics of the site's channels.
        readers: what reads its spikes; without any, ``separate`` is taken.
        cap: the rectifier's upper clip, or one a channel; no channel's largest value lies above it.
    """
    if not readers or not separate.channel_steps:
        return separate
    search = _Search(histogram, [thinned(reader) for reader in readers])
    own, middles = np.array(separate.channel_steps), middles_of(separate) if separate.channel_shifts else None
    best, least = separate, np.inf
    common = min(shared.step, separate.step) if separate.channel_shifts else shared.step
    codes = dict.fromkeys((shared.code, separate.code))
    for code, share, equalizer in itertools.product(codes, _SHARES, _EQUALIZERS):
        shape = own**share * common ** (1 - share) * search.columns**-equalizer
        steps, shifts, noise = search.best_level(shape, code, cap, middles)
        if noise < least:
            best, least = Threshold.per_channel(steps, code, shifts), noise
    return best


class _Search:
    """Predicts noise."""

    def __init__(self, histogram: ChannelHistogram, readers: Sequence[SpikeReader]) -> None:
        self._bins, self._readers = histogram.bins(), readers
        self._powers = channel_powers(*self._bins)
        count = len(self._powers)
        self._weights = np.zeros(count)
        self._signals = []
        for reader in readers:
            columns = reader.columns(count)
            self._signals.append(max(float(columns @ self._powers), _LEAST))
            self._weights += columns / self._signals[-1]
        largest = np.max([reader.largest_shares(count) for reader in readers], 0)
        typical = np.exp(np.log(largest[largest > 0]).mean()) if (largest > 0).any() else 1.0
        self.columns = np.clip(np.where(largest > 0, largest / typical, 1.0), 1 / 16, 16.0)

    def best_level(
        self, shape: FloatArray, code: SpikeCode, cap: FloatArray | float | None, middles: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, float]:
        """k·shape with the k of least noise, the channels' shifts, and that noise."""
        candidates = [capped_steps(shape * level, code, cap) for level in _LEVELS]
        found = [self._errors(steps, code, middles) for steps in candidates]
        losses = [float(errors @ self._weights) for errors, _ in found]
        index = int(np.argmin(losses))
        steps, shifts = candidates[index], found[index][1]
        low, high, counts = self._bins
        powers = channel_powers(low - shifts[:, None], high - shifts[:, None], counts)
        of_weights = sum(
            reader.rounding_noise(steps, powers) / signal
            for reader, signal in zip(self._readers, self._signals, strict=True)
        )
        return steps, shifts, losses[index] + of_weights

    def _errors(self, steps: FloatArray, code: SpikeCode, middles: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """E[(x − s − Q(x − s))²] of each channel, and its shift s: none, or that of its middle if that is better."""
        centred, none = channel_errors(*self._bins, steps, code), np.zeros_like(steps)
        if middles is None:
            return centred, none
        shifts = shifts_of(np.where(np.isnan(middles), 0.0, middles), steps, code)
        errors = channel_errors(*self._bins, steps, code, shifts)
        better = (errors < centred) & ~np.isnan(middles)
        return np.where(better, errors, centred), np.where(better, shifts, none)
