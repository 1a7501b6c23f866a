"""Looks at what the neurons of a network in training fire."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snnconvert.errors import ConfigurationError
from snnconvert.neurons.code import SpikeCode
from snnconvert.trainable.network import TrainableNetwork
from snnconvert.training.penalties import activity
from snnconvert.training.spike_counts import Busy, count_spikes


class ActivityWatch:
    """What the neurons fired for the last batch, with its graph, and how busy they were since it was last asked.

    Neurons that fire on the network's own inputs are left out: training doesn't change what they fire. A copy of the
    network isn't watched.
    """

    def __init__(self, network: TrainableNetwork, gradient_limit: float = 0.0) -> None:
        """Watches a network.

        Args:
            network: the network.
            gradient_limit: l, each dL/dx is squashed to l·hardtanh(dL/dx / l), with x as in
                :func:`~snnconvert.training.penalties.activity`; 0: as it is.

        Raises:
            ConfigurationError: if no neurons but those on its inputs fire in it.
        """
        watched = [module for _, module in network.neurons() if module.learns]
        if not watched:
            raise ConfigurationError(
                "there are no neurons behind the network's inputs whose activity could be held down: train it without "
                "activation_penalty and target_sparsity"
            )
        self._samples = 0
        self._sum: Tensor | None = None
        self._counts = torch.zeros(len(dataclasses.fields(Busy)), dtype=torch.float64)
        for module in watched:
            module.watchers.append(_Watch(self, module.neuron.code, gradient_limit))
        network.register_forward_pre_hook(_Begin(self))

    def begin(self, samples: int) -> None:
        """Called before each batch."""
        self._samples, self._sum = samples, None

    def take(self, values: Tensor, code: SpikeCode) -> None:
        """Called with what one layer of neurons fired."""
        if not values.requires_grad:
            return
        own = activity(values, code)
        counted, windows = count_spikes(values, code), values.numel()
        sizes = counted.new_tensor([windows, windows * code.T, windows * code.T * code.spike_bits])
        seen = counted.new_tensor([self._samples if self._sum is None else 0])
        self._counts = self._counts.to(counted.device)
        self._counts += torch.cat([sizes, counted, seen, own.detach().double().reshape(1)])
        self._sum = own if self._sum is None else self._sum + own

    def activity(self) -> Tensor:
        """Σ x over a sample's neurons, the mean over the samples of the last batch; may be asked once.

        Raises:
            ConfigurationError: if no batch has gone through the network since.
        """
        if self._sum is None:
            raise ConfigurationError("penalties belong to a batch: call the network with gradients first")
        mean = self._sum / self._samples
        self._sum = None
        return mean

    def busy(self) -> Busy:
        """How busy neurons were since last asked, in all processes together."""
        counts, self._counts = self._counts, torch.zeros_like(self._counts)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(counts)
        return Busy(*counts.tolist())


class _Alone:
    """A copy of what it calls would hold on to the original's graph: copies are idle."""

    def __deepcopy__(self, _: dict[int, Any]) -> _Idle:
        return _Idle()


class _Idle:
    def __call__(self, *_: Any) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class _Watch(_Alone):
    """Tells of what one layer of neurons fired."""

    watch: ActivityWatch
    code: SpikeCode
    gradient_limit: float

    def __call__(self, values: Tensor) -> None:
        if self.gradient_limit and values.requires_grad:
            limit = self.gradient_limit / float(self.code.largest_value if self.code.signed else self.code.span)
            values.register_hook(lambda gradient: gradient.clamp(-limit, limit))  # type: ignore[no-untyped-call]
        self.watch.take(values, self.code)


@dataclass(frozen=True)
class _Begin(_Alone):
    """Tells of a new batch."""

    watch: ActivityWatch

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.watch.begin(len(inputs[0]))
