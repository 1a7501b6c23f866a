"""What the training loop trains, and the spiking network as such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from snnconvert.spiking_model import SpikingModel
from snnconvert.trainable.network import TrainableNetwork
from snnconvert.training.block_distillation import BlockDistillation
from snnconvert.training.schedule import Group


class Trainee(Protocol):
    """A network that learns: what it computes, its parameters, and what it costs beside the task.

    Attributes:
        module: called with inputs [N, ...], gives logits [N, classes, ...].
    """

    module: nn.Module

    def groups(self) -> Sequence[Group]:
        """Its parameters."""

    def penalties(self, progress: float) -> dict[str, Tensor]:
        """What is added to the loss of the batch just seen, by name.

        Args:
            progress: the share of all steps that is over.
        """

    def after_step(self, progress: float) -> dict[str, float]:
        """Called after each optimizer step; what it measured, for the log."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep beside parameters."""

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state."""


class SpikingTrainee:
    """A spiking network whose integers and thresholds are trained.

    Attributes:
        module: the network, in training mode.
    """

    def __init__(self, snn: SpikingModel, scale_rate: float = 1.0) -> None:
        """Makes the network trainable.

        Args:
            snn: the network.
            scale_rate: learning rate of thresholds and weight steps over that of weights.
        """
        self.module: nn.Module = snn.train()
        self._snn = snn
        self._scale_rate = scale_rate
        self._blocks: tuple[BlockDistillation, float] | None = None

    def begin(self, inputs: Tensor) -> None:
        """Called once before training.

        Args:
            inputs: a few samples.
        """

    def distil_blocks(self, ann: nn.Module, example: Tensor, weight: float) -> nn.Module:
        """Adds the distance between both networks' blocks to the loss; gives the ANN to distil from.

        Args:
            ann: the ANN.
            example: two samples.
            weight: of the distance.

        Raises:
            ConfigurationError: as :class:`~snnconvert.training.block_distillation.BlockDistillation`.
        """
        blocks = BlockDistillation(self.network, self._snn, ann, example)
        self._blocks = blocks, weight
        return blocks.teacher

    @property
    def network(self) -> TrainableNetwork:
        """Its differentiable form."""
        assert self._snn.trainable is not None
        return self._snn.trainable

    def groups(self) -> Sequence[Group]:
        """Weights, biases, and the factors of thresholds and weight steps."""
        synapses = [synapse for _, synapse in self.network.synapses()]
        thresholds = tuple(neuron.threshold for _, neuron in self.network.neurons())
        return (
            Group("weights", tuple(synapse.weight for synapse in synapses), decays=True),
            Group("biases", tuple(synapse.bias for synapse in synapses)),
            Group("weight steps", tuple(synapse.weight_step for synapse in synapses), self._scale_rate),
            Group("thresholds", thresholds, self._scale_rate),
        )

    def penalties(self, progress: float) -> dict[str, Tensor]:
        """The distance between blocks, if it was asked for."""
        del progress
        return {} if self._blocks is None else {"blocks": self._blocks[1] * self._blocks[0].loss()}

    def after_step(self, progress: float) -> dict[str, float]:
        """Nothing to do."""
        del progress
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing beside parameters."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing to read."""
        del state


def trained_parameters(trainee: Trainee) -> list[nn.Parameter]:
    """All parameters that learn, in the order of their groups."""
    return [parameter for group in trainee.groups() for parameter in group.parameters if parameter.requires_grad]


@torch.no_grad()
def are_finite(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether no parameter holds NaN or Inf."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in parameters)
