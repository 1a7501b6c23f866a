"""Neurons that see their whole window at once and answer with one word: training doesn't depend on T.

    z = clip(⌊v/Δ + ½⌋, 0, 2^(b·T) − 1),    y = Δ·z

The T digits of z, b bits each and the most significant first, are the spikes. A synapse reads the word: by linearity
W·z is what T steps of the digits add up to, and memory and time of both passes are those of one step.

Source: SpikePack (Shen et al., ICCV 2025), τ = 2; its greedy emission with v₀ half a step higher is a reconstruction
under which both forms give the same word. Gradients pass straight through the rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from snnconvert.errors import ConfigurationError
from snnconvert.training.direct.gradients import Threshold, quantized
from snnconvert.training.direct.settings import NeuronSettings

if TYPE_CHECKING:
    from collections.abc import Callable


class PackedNeuron(nn.Module):
    """A layer of packed neurons; equations at the top of this module.

    Submodules:
        threshold: Δ.
    """

    def __init__(self, settings: NeuronSettings) -> None:
        """Builds the layer.

        Args:
            settings: of kind "packed".

        Raises:
            ConfigurationError: on another kind.
        """
        super().__init__()
        if settings.kind != "packed":
            raise ConfigurationError(f"these neurons are 'packed', got {settings.kind!r}")
        self.settings = settings
        self.threshold = Threshold(settings.first_threshold, settings.largest, learned=settings.learned_threshold)

    if TYPE_CHECKING:
        __call__: Callable[..., Tensor]

    def forward(self, potential: Tensor) -> Tensor:
        """Values Δ·z of the words.

        Args:
            potential: v, float32 [N, ...]: what the synapses add up to over the whole window.

        Returns:
            float32 [N, ...].
        """
        step = self.threshold(potential[0].numel())
        return quantized(potential / step, self.settings.largest) * step

    @torch.no_grad()
    def spikes(self, potential: Tensor) -> Tensor:
        """The same words fired one digit a step, greedily:

            u₀ = v/Δ + ½,    s_t = clip(⌊u/2^(b·(T−t))⌋, 0, 2^b − 1),    u ← u − s_t·2^(b·(T−t)),    t = 1..T

        Args:
            potential: v, float32 [N, ...].

        Returns:
            s, uint8 [T, N, ...], so that z = Σ_t s_t·2^(b·(T−t)).
        """  # noqa: D415
        bits, T = self.settings.bits, self.settings.T
        rest = potential / self.threshold(potential[0].numel()) + 0.5
        digits = []
        for place in reversed(range(T)):
            worth = float(2 ** (bits * place))
            digit = (rest / worth).floor().clamp(0, 2**bits - 1)
            rest = rest - digit * worth
            digits.append(digit.to(torch.uint8))
        return torch.stack(digits)
