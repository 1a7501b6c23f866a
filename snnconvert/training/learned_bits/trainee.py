"""A network of learned widths as the training loop takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.training.learned_bits.network import LearnedBitsNetwork
from snnconvert.training.learned_bits.width import Width
from snnconvert.training.schedule import Group

_STATE = ("fitted", "fixed")


class LearnedBitsTrainee:
    """Satisfies :class:`~snnconvert.training.trainee.Trainee`; :func:`~.landing.land` makes the spiking network after.

    Attributes:
        module: called with inputs [N, ...], gives logits [N, classes, ...].
    """

    def __init__(self, network: LearnedBitsNetwork) -> None:
        """Takes a network in training mode.

        Args:
            network: the network.
        """
        self._network = network.train()
        self.module: nn.Module = _Logits(network)

    def groups(self) -> Sequence[Group]:
        """Weights, steps, bits and T, with the rates that suit Adam."""
        return tuple(
            Group(group["name"], tuple(group["params"]), group["lr_multiplier"], group["weight_decay"] > 0)
            for group in self._network.parameter_groups()
        )

    def penalties(self, progress: float) -> dict[str, Tensor]:
        """The distance of mean widths from their targets."""
        del progress
        return {"widths": self._network.penalty()}

    def after_step(self, progress: float) -> dict[str, float]:
        """Ends renewals and settles widths when it is time; the mean widths, for the log."""
        self._network.after_step(progress)
        weight_bits, spike_bits, T = self._network.means.rounded()
        return {"weight bits": weight_bits, "spike bits": spike_bits, "T": T}

    def state(self) -> dict[str, Any]:
        """What is fitted and fixed, and whether renewals have ended."""
        buffers = self._network.named_buffers()
        kept = {name: value.clone() for name, value in buffers if name.rpartition(".")[2] in _STATE}
        flags = (self._network.settled, self._network.renews_weights, self._network.renews_spikes)
        return {**kept, "flags": torch.tensor(flags)}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state."""
        network = self._network
        network.settled, network.renews_weights, network.renews_spikes = state["flags"].bool().tolist()
        buffers = dict(network.named_buffers())
        with torch.no_grad():
            for name, value in state.items():
                if name != "flags":
                    buffers[name].copy_(value)
        for width in network.modules():
            if isinstance(width, Width):
                width.value.requires_grad_(width.is_learned)


class _Logits(nn.Module):
    """The only output of a network."""

    def __init__(self, network: LearnedBitsNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        found = self.network(*inputs)
        return found[0] if isinstance(found, (list, tuple)) and len(found) == 1 else found
