"""The differentiable form of a synapse: real weights, their steps, and the integers they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from snnconvert.neurons.synapse import Synapse
from snnconvert.neurons.weight_integers import largest_integer, nearest_integers
from snnconvert.trainable.straight_through import replaced, rounded, with_scaled_gradient

SMALLEST_FACTOR, LARGEST_FACTOR = 2.0**-6, 2.0**6
_FINE_MULTIPLIER, _LARGEST_MULTIPLIER, _MOST = 8, 1 << 20, 0.9


class TrainableSynapse(nn.Module):
    """I = (k·z + c)·m' of integer words z, with k = clip(rne(w/α), −q, q) and c = rne(b/(α·Δ)).

    With one bit k = sign(w). What comes out are the very integers that :meth:`settle` leaves in the synapse. Gradients
    pass the roundings straight through; that of α is LSQ's (Esser et al., ICLR 2020), scaled by 1/√(N·q).

    A change of α, or of Δ, what an input step stands for, changes what a count of the current is worth by r = α·Δ over
    what it was. Where the multiplier is fine enough it takes it, m' = rne(m·r), and α becomes what m' makes of it;
    elsewhere those who read the current do (``fold``), or α stays.

    Parameters:
        weight: w [O, ...], in the ANN's units.
        bias: b [O], likewise.
        weight_step: α of each output channel [O], as a factor of the one it starts with.
    """

    base_multiplier: Tensor
    base_unit: Tensor
    worth: Tensor

    def __init__(self, synapse: Synapse, input_step: float, *, folds: bool) -> None:
        """Starts from a synapse's integers.

        Args:
            synapse: the synapse.
            input_step: Δ of the words it reads, in the ANN's units.
            folds: whether all who read its current can take what the multiplier can't.
        """
        super().__init__()
        self._of = (synapse,)
        multiplier = synapse.multiplier.double()
        unit = synapse.unit * multiplier
        self.register_buffer("base_multiplier", synapse.multiplier.clone(), persistent=False)
        self.register_buffer("base_unit", synapse.unit.clone(), persistent=False)
        self.register_buffer("worth", (unit / input_step).float(), persistent=False)
        fine = self.is_fine(synapse)
        self.is_free, self.folds = fine or folds, folds and not fine
        self.input_factor: Callable[[], Tensor] | None = None
        rank = synapse.weight.dim()
        self.weight = nn.Parameter(synapse.weight.float() * synapse.channelwise(self.worth, rank, axis=0))
        self.bias = nn.Parameter((synapse.bias * unit).float())
        self.weight_step = nn.Parameter(torch.ones_like(self.worth), requires_grad=self.is_free)
        widths = synapse.channelwise(synapse.widths, rank, axis=0)
        self.register_buffer("widths", widths, persistent=False)
        self._gradient_scale = 1 / math.sqrt(synapse.weight[0].numel() * float(largest_integer(widths).max()))

    @staticmethod
    def is_fine(synapse: Synapse) -> bool:
        """Whether nearly all multipliers can be rounded without much loss."""
        fine = (synapse.multiplier >= _FINE_MULTIPLIER) & (synapse.multiplier <= _LARGEST_MULTIPLIER)
        return float(fine.float().mean()) >= _MOST

    @property
    def synapse(self) -> Synapse:
        """The synapse of integers."""
        return self._of[0]

    def step_factor(self) -> Tensor:
        """α over what it was, [O]."""
        if not self.is_free:
            return torch.ones_like(self.weight_step)
        factor = self.weight_step.clamp(SMALLEST_FACTOR, LARGEST_FACTOR)
        return with_scaled_gradient(factor, self._gradient_scale)

    def count_factor(self) -> Tensor:
        """r, what a count before the multiplier is worth over what it was, [O]; as far as m' can be r times m."""
        if self.folds or not self.is_free:
            return self._wanted_factor()
        return self.multiplier() / self.base_multiplier.to(self.worth.dtype)

    def _wanted_factor(self) -> Tensor:
        factor = self.step_factor()
        return factor if self.input_factor is None else factor * self.input_factor()

    def fold(self) -> Tensor:
        """What those who read the current must take of r, [O]: r where the multiplier doesn't, else 1."""
        factor = self.count_factor()
        return factor if self.folds else torch.ones_like(factor)

    def multiplier(self) -> Tensor:
        """m', [O]."""
        base = self.base_multiplier.to(self.worth.dtype)
        if self.folds or not self.is_free:
            return base
        return rounded(base * self._wanted_factor()).clamp(1, _LARGEST_MULTIPLIER)

    def integers(self) -> Tensor:
        """k, [O, ...]."""
        worth = self.worth * self.count_factor()
        worth = worth if self.input_factor is None else worth / self.input_factor()
        step = self.synapse.channelwise(worth, self.weight.dim(), axis=0)
        counts = self.weight / step
        largest = largest_integer(self.get_buffer("widths")).to(counts.dtype)
        clipped = torch.minimum(torch.maximum(counts, -largest), largest)
        with torch.no_grad():
            nearest = nearest_integers(counts, self.get_buffer("widths"))
        return replaced(clipped, nearest)

    def bias_integers(self) -> Tensor:
        """c, [O]."""
        unit = (self.base_unit * self.base_multiplier).float()
        return rounded(self.bias / (unit * self.count_factor()))

    def forward(self, words: Tensor) -> Tensor:
        """The integer current of integer-valued words [N, ...], in their floating type."""
        return self.synapse.with_weights(*self.scaled(), words)

    def scaled(self) -> tuple[Tensor, Tensor]:
        """k·m' [O, ...] and c·m' [O]."""
        multiplier = self.multiplier()
        weight = self.integers() * self.synapse.channelwise(multiplier, self.weight.dim(), axis=0)
        return weight, self.bias_integers() * multiplier

    @torch.no_grad()
    def settle(self) -> None:
        """Leaves the integers in the synapse, and what its counts are worth."""
        synapse = self.synapse
        synapse.weight.copy_(self.integers().round().to(torch.int8))
        synapse.bias.copy_(self.bias_integers().round().to(torch.int32))
        synapse.multiplier.copy_(self.multiplier().round().to(torch.int32))
        synapse.unit.copy_(self.base_unit * self.fold().double())
        synapse.prepare()
