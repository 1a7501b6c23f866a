"""Membranes of rate-coded neurons over a window, and their adjoint: gradients back through every step.

With potentials in thresholds, a_t = λ·v_{t−1} + (1 − λ)·v_r + i_t before firing, s_t spikes, and

    soft reset  v_t = a_t − s_t            ∂L/∂a_t = e_t·(1 − h_t) + g_t·h_t
    hard reset  v_t = a_t·(1 − [s_t > 0])  ∂L/∂a_t = e_t·(1 − [s_t > 0] − a_t·h_t) + g_t·h_t

where g_t = ∂L/∂s_t, e_t = ∂L/∂v_t = λ·∂L/∂a_{t+1}, e_T = 0, and h_t stands for ∂s_t/∂a_t: a surrogate's slope at
a_t − 1 of binary spikes, 1 for 0 ≤ a_t < 2^b of bursts, whose rounding passes gradients straight through (the hard
reset is then taken as fixed).

Source: backpropagation through time with surrogate gradients (Neftci, Mostafa and Zenke, 2019); only spikes' slopes are
kept of the forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconvert.neurons.integrate_and_fire import CountingCode, charged, fire_and_reset
from snnconvert.neurons.leaky import LeakyCode
from snnconvert.trainable.gradients import Gradients


@dataclass(frozen=True)
class Membrane:
    """How neurons of a layer integrate, fire and learn.

    Attributes:
        code: rate-coded, with or without leak.
        gradients: surrogate and truncation.
        most: the largest count a window may fire, None for any.
        smoothed: fire the surrogate's smooth function (of bursts a_t − 1/2, clipped) in place of spikes: the function
            whose gradient the backward pass computes. For checks.
    """

    code: CountingCode
    gradients: Gradients
    most: float | None = None
    smoothed: bool = False

    @property
    def leak(self) -> float:
        """λ."""
        return self.code.leak if isinstance(self.code, LeakyCode) else 1.0

    @property
    def largest(self) -> int:
        """The largest spike."""
        return self.code.spike_range[1]

    def slope(self, charge: Tensor) -> Tensor:
        """H of charges a."""
        if self.largest == 1:
            return self.gradients.surrogate.slope(charge - 1)
        return ((charge >= 0) & (charge < self.largest + 1)).to(charge.dtype)

    def fire(self, potential: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes of charged potentials, in T-ths of Δ, and the potential after the reset."""
        threshold = float(self.code.T)
        if not self.smoothed:
            spikes, state = fire_and_reset(potential, threshold, self.largest, self.code.reset)
            return spikes, state.potential
        charge = potential / threshold
        if self.largest == 1:
            spikes = self.gradients.surrogate.smooth(charge - 1)
        else:
            spikes = (charge - 0.5).clamp(-0.5, self.largest + 0.5)
        if self.code.reset == "soft":
            return spikes, potential - spikes * threshold
        return spikes, potential * (1 - spikes if self.largest == 1 else charge < 1)

    def through(self, step: int) -> bool:
        """Whether gradients go from a step back to the one before."""
        return not self.gradients.truncation or step % self.gradients.truncation != 0


def fired_in_time(
    currents: Tensor, scale: Tensor, constant: Tensor | None, membrane: Membrane, kind: torch.dtype
) -> Tensor:
    """Spikes of T steps under currents x_t: the drive is x_t·scale + constant, in float64.

    Args:
        currents: x, [T, N, ...].
        scale: float64, T-ths of Δ per count; scalar or broadcastable to a step.
        constant: float64, what enters at every step, likewise; or None.
        membrane: the neurons.
        kind: type of the spikes and of all that is kept for the backward pass.

    Returns:
        [T, N, ...].
    """
    spikes: Tensor = _FiredInTime.apply(currents, scale, constant, membrane, kind)
    return spikes


class _FiredInTime(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, scale: Tensor, constant: Tensor | None, membrane: Membrane, kind: torch.dtype
    ) -> Tensor:
        code = membrane.code
        spikes = torch.empty_like(currents, dtype=kind)
        charges = torch.empty_like(spikes) if any(ctx.needs_input_grad) else None
        cut = torch.zeros_like(spikes, dtype=torch.bool) if membrane.most is not None else None
        potential = code.initial(currents[0]).potential
        total: Tensor | float = 0.0
        for step, current in enumerate(currents):
            drive = current.to(torch.float64, copy=True).mul_(scale)
            drive = code.driven(drive if constant is None else drive.add_(constant))
            potential = charged(drive, potential, membrane.leak, code.v0 * code.T)
            if charges is not None:
                charges[step] = potential / code.T
            fired, potential = membrane.fire(potential)
            spikes[step] = fired
            if cut is not None and membrane.most is not None:
                room = membrane.most - total
                cut[step] = spikes[step] > room
                total = total + spikes[step].clamp_(max=room)
        ctx.save_for_backward(charges, cut, currents if ctx.needs_input_grad[1] else None, scale)
        ctx.membrane, ctx.kind = membrane, currents.dtype
        ctx.constant_shape = None if constant is None else constant.shape
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        charges, cut, currents, scale = ctx.saved_tensors
        received = gradients[0] if cut is None else gradients[0].masked_fill(cut, 0.0)
        drives = _back_through(received, charges, ctx.membrane)
        for_currents, for_scale, for_constant = None, None, None
        if ctx.needs_input_grad[0]:
            for_currents = (drives * scale.to(drives.dtype)).to(ctx.kind)
        if ctx.needs_input_grad[1]:
            for_scale = (drives * currents).sum(0).sum_to_size(scale.shape).to(scale.dtype)
        if ctx.needs_input_grad[2]:
            for_constant = drives.sum(0).sum_to_size(ctx.constant_shape).to(scale.dtype)
        return for_currents, for_scale, for_constant, None, None


def _back_through(received: Tensor, charges: Tensor, membrane: Membrane) -> Tensor:
    """∂L/∂(drive) of all steps [T, ...]."""
    drives = torch.empty_like(charges)
    later: Tensor | None = None
    for step in reversed(range(len(charges))):
        charge = charges[step]
        slope = membrane.slope(charge)
        gradient = received[step] * slope
        if later is not None:
            gradient.add_(later * _kept(charge, slope, membrane))
        drives[step] = gradient / membrane.code.T
        later = gradient.mul_(membrane.leak) if membrane.through(step) else None
    return drives


def _kept(charge: Tensor, slope: Tensor, membrane: Membrane) -> Tensor:
    """∂v_t/∂a_t."""
    if membrane.code.reset == "soft":
        return 1 - slope
    if membrane.largest > 1:
        return (charge < 1).to(slope.dtype)
    if membrane.smoothed:
        return 1 - membrane.gradients.surrogate.smooth(charge - 1) - charge * slope
    return (charge < 1).to(slope.dtype) - charge * slope
