"""Neurons of one or several bits that integrate over time, and are trained through it.

    u[t] = τ·v[t−1] + x[t],    s[t] = θ·clip(⌊u[t]/θ + ½⌋, 0, 2^b − 1),    v[t] = u[t] − s[t],    v[0] = 0

Source: Shen et al., "Are Conventional SNNs Really Efficient?" (CVPR 2024). That the reset comes after the rounding, and
that ties go up (so that a neuron of one bit fires where u − θ/2 ≥ 0), is a reconstruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from snnconvert.errors import ConfigurationError, InputError
from snnconvert.trainable.surrogate import Surrogate
from snnconvert.training.direct.gradients import Threshold, quantized
from snnconvert.training.direct.settings import NeuronSettings

if TYPE_CHECKING:
    from collections.abc import Callable


def spike_counts(potential: Tensor, bits: int, surrogate: Surrogate) -> Tensor:
    """clip(⌊u + ½⌋, 0, 2^b − 1) of potentials u in units of θ.

    At one bit this is H(u − ½), with the surrogate's slope g'(u − ½) going backward; with more bits gradients pass
    straight through where u rounds to a spike.

    Args:
        potential: u/θ, any shape.
        bits: b.
        surrogate: used at one bit.

    Returns:
        Whole numbers, same shape and dtype.
    """
    return surrogate(potential - 0.5) if bits == 1 else quantized(potential, 2**bits - 1)


class IntegratingNeuron(nn.Module):
    """A layer of integrate-and-fire neurons, leaky or not, of b bits; equations at the top of this module.

    Everything is differentiable: x through surrogate or straight-through, θ through u/θ and through the height of
    spikes, and the past through the membrane, unless ``truncation`` cuts it.

    Submodules:
        threshold: θ.
    """

    def __init__(self, settings: NeuronSettings) -> None:
        """Builds the layer.

        Args:
            settings: of kind "if" or "lif".

        Raises:
            ConfigurationError: on another kind.
        """
        super().__init__()
        if settings.kind not in ("if", "lif"):
            raise ConfigurationError(f"these neurons integrate over time: 'if' or 'lif', got {settings.kind!r}")
        self.settings = settings
        self.threshold = Threshold(settings.first_threshold, settings.largest, learned=settings.learned_threshold)

    if TYPE_CHECKING:
        __call__: Callable[..., Tensor]

    def forward(self, current: Tensor) -> Tensor:
        """Spikes times θ of a window of currents.

        Args:
            current: x, float32 [T, N, ...]; T is that of the settings.

        Returns:
            θ·{0, ..., 2^b − 1}, float32 [T, N, ...].

        Raises:
            InputError: if the first dimension isn't T.
        """
        settings = self.settings
        if current.dim() < 2 or current.shape[0] != settings.T:
            raise InputError(f"currents must be [T, N, ...] with T = {settings.T}, got {list(current.shape)}")
        theta = self.threshold(current[0, 0].numel())
        x = current / theta
        spikes = []
        v = torch.zeros_like(x[0])
        for step in range(settings.T):
            if settings.truncation is not None and step and step % settings.truncation == 0:
                v = v.detach()
            u = settings.retained * v + x[step]
            fired = spike_counts(u, settings.bits, settings.surrogate)
            v = u - fired
            spikes.append(fired)
        return torch.stack(spikes) * theta
