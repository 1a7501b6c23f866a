"""Training for sparsity: penalties on activity and weights, and a weight that finds itself.

What sparsity means: the share of zeros among the T·b_s bits of every neuron's window, over all neurons but those that
fire on the network's inputs (*bit sparsity*). With binary spikes, as in Yan et al., that is 1 − spike rate a step.
Beside it *word sparsity* is the share of windows without any spike: what decides where a word is sent as one integer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snnconvert.errors import ConfigurationError
from snnconvert.spiking_model import SpikingModel
from snnconvert.trainable.network import default_gradients
from snnconvert.training.activity_watch import ActivityWatch
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.penalties import gram
from snnconvert.training.schedule import Group
from snnconvert.training.sparsity_control import SparsityController
from snnconvert.training.spike_counts import Busy
from snnconvert.training.threshold_start import raise_thresholds
from snnconvert.training.trainee import SpikingTrainee

PAPER_GRADIENT_LIMIT = 100.0
_FIRST_LOSS = 1.0


@dataclass(frozen=True)
class SparsityConfig:
    """L = task + λ_a·Σ_neurons x + (β/2)·Σ_layers ‖WᵀW − c·I‖², the mean over samples.

    Yan et al. sum x over a whole batch of N samples: their λ is λ_a/N.

    Attributes:
        activation_penalty: λ_a; where a target drives it the one it starts with, and 0 lets the penalty start at 1.
        gram_penalty: β; the paper's code has 2e-3, of weights behind thresholds of 1.
        gram_identity: c; the paper's code has 0.
        target: bit sparsity to drive λ_a to; None: λ_a stays.
        threshold_rate: learning rate of thresholds over that of weights, in place of the general one: a threshold that
            rises makes all its neurons fire less, with far less noise in its gradient than a weight has.
        gradient_limit: gradients g of x become l·hardtanh(g/l); the paper's code has 100. 0: they stay.
    """

    activation_penalty: float = 0.0
    gram_penalty: float = 0.0
    gram_identity: float = 0.0
    target: float | None = None
    threshold_rate: float = 3.0
    gradient_limit: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "target" and value is None:
                continue
            high = 1.0 if field.name == "target" else math.inf
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= high:
                raise ConfigurationError(f"{field.name} must be a number of at least 0 (a target at most 1): {value!r}")

    @classmethod
    def of(cls, config: FinetuneConfig) -> SparsityConfig:
        """What the settings of fine-tuning say of sparsity."""
        return cls(config.activation_penalty, config.gram_penalty, target=config.target_sparsity)

    @property
    def acts(self) -> bool:
        """Whether anything is asked for."""
        return self != SparsityConfig()


class SparseTrainee(SpikingTrainee):
    """A spiking network that is trained to be sparse, and says how sparse it is.

    The penalty is on the values of the words, whatever their code: a smaller value has fewer spikes in a rate code, and
    in the mean fewer ones in a packed word. What is measured, and driven, are the bits themselves.
    """

    def __init__(self, snn: SpikingModel, scale_rate: float, config: SparsityConfig) -> None:
        """Makes the network trainable and watches its neurons.

        Args:
            snn: the network.
            scale_rate: see :class:`~snnconvert.training.trainee.SpikingTrainee`.
            config: the settings.

        Raises:
            ConfigurationError: if no neurons but those on its inputs fire in it.
        """
        super().__init__(snn, scale_rate)
        self._config = config
        self._watch = ActivityWatch(self.network, config.gradient_limit)
        self._weight = config.activation_penalty
        self._controller: SparsityController | None = None
        if config.target is not None and config.activation_penalty:
            self._controller = SparsityController(config.target, config.activation_penalty)

    @property
    def activation_penalty(self) -> float:
        """λ_a as it is now."""
        return self._weight

    def groups(self) -> Sequence[Group]:
        """As of any spiking network, thresholds at a rate of their own."""
        return [
            dataclasses.replace(group, rate=self._config.threshold_rate) if group.name == "thresholds" else group
            for group in super().groups()
        ]

    def begin(self, inputs: Tensor) -> None:
        """Raises thresholds to where the target is met, before anything is learned.

        Args:
            inputs: a few samples.
        """
        if self._config.target is None:
            return

        def sparsity() -> float:
            self.module(inputs)
            return self._watch.busy().bit_sparsity

        raise_thresholds([neuron for _, neuron in self.network.neurons()], sparsity, self._config.target)

    def penalties(self, progress: float) -> dict[str, Tensor]:
        """λ_a·Σ x of the batch just seen, and (β/2)·Σ ‖WᵀW − cI‖²; with what else was asked for."""
        terms = super().penalties(progress)
        activity = self._watch.activity()
        if self._weight or self._config.target is not None:
            terms["activation penalty"] = self._weight * activity
        if self._config.gram_penalty:
            weights = (synapse.weight for _, synapse in self.network.synapses())
            terms["gram penalty"] = self._config.gram_penalty * gram(weights, self._config.gram_identity)
        return terms

    def after_step(self, progress: float) -> dict[str, float]:
        """Measures sparsities over all processes, and sets λ_a of the next step."""
        del progress
        busy = self._watch.busy()
        if self._config.target is not None and busy.windows:
            self._weight = self._driven(self._config.target, busy)
        return {
            "bit sparsity": busy.bit_sparsity,
            "word sparsity": busy.word_sparsity,
            "activation weight": self._weight,
        }

    def _driven(self, target: float, busy: Busy) -> float:
        if self._controller is None:
            self._controller = SparsityController(target, _FIRST_LOSS * busy.samples / max(busy.activity, 1.0))
        return self._controller.update(busy.bit_sparsity)

    def state(self) -> dict[str, Any]:
        """λ_a and what drives it."""
        return {"weight": self._weight, "controller": self._controller and self._controller.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on with the same λ_a."""
        self._weight = float(state["weight"])
        if state["controller"] is not None:
            assert self._config.target is not None
            self._controller = SparsityController(self._config.target, self._weight or 1.0)
            self._controller.load(state["controller"])


def trainee_for(snn: SpikingModel, config: FinetuneConfig) -> SpikingTrainee:
    """What the settings of fine-tuning train: for sparsity, too, where they ask for it.

    Raises:
        ConfigurationError: if gradients can't take the way that was told through some neurons.
    """
    wanted = SparsityConfig.of(config)
    sparse = wanted.acts
    trainee = SparseTrainee(snn, config.scale_rate, wanted) if sparse else SpikingTrainee(snn, config.scale_rate)
    trainee.network.gradients = config.way(default_gradients(snn.network))
    return trainee
