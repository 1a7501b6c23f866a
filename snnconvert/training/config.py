"""Settings of fine-tuning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnconvert.errors import ConfigurationError
from snnconvert.trainable.gradients import WAYS, Gradients
from snnconvert.trainable.surrogate import Surrogate

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("float32", "bfloat16")
AUGMENTATIONS = ("none", "flip", "crop", "flip-crop")
GRADIENTS = ("auto", *WAYS)
MATCHINGS = ("auto", "classes", "values")
_LARGEST = 1 << 31


@dataclass(frozen=True)
class FinetuneConfig:
    """How a converted network is trained.

    The loss of a batch is (1 − d)·CE(labels) + d·τ²·KL(ANN ‖ SNN) + f·Σ_blocks ‖SNN − ANN‖²/var(ANN) / blocks; without
    an ANN d and f are 0, without labels d is 1. Of outputs that are values, no logits of classes, KL is replaced by the
    mean of ‖SNN − ANN‖²/var(ANN) over outputs.

    Attributes:
        epochs: passes over the training data.
        batch_size: samples of one optimizer step, over all processes.
        accumulate: parts a process's share of a batch is taken in, one after the other.
        optimizer: "adamw" or "sgd" (Nesterov momentum 0.9).
        learning_rate: the largest, of weights and biases; it rises linearly and falls with a cosine.
        scale_rate: that of thresholds and weight steps, which are factors that start at 1, as a multiple of the
            learning rate.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of weights.
        clip: largest norm of all gradients together; 0: any.
        distillation: d.
        temperature: τ.
        matching: how outputs are compared with the ANN's: "classes", logits along dimension 1; "values", each output by
            itself, what a detector needs; "auto": classes where there is one output, else values.
        block_distillation: f, where the ANN's graph is known.
        ema: decay a step of the average of parameters that is kept in the end; 0: the last ones.
        augmentation: of images: "flip" mirrors half of them, "crop" shifts them by up to an eighth of their size.
        mixup: α of what is mixed into each sample of another of its step, λ·x + (1 − λ)·x' with λ from Beta(α, α)
            (Zhang et al., ICLR 2018), labels and the ANN's outputs accordingly; 0: nothing. Few images last longer so.
        precision: of products while training: "float32", or "bfloat16", which no longer adds up integers exactly.
        activation_penalty: λ_a, see :mod:`snnconvert.training.sparsity`.
        gram_penalty: β, likewise.
        target_sparsity: share of bits that shall be 0; λ_a is then driven until it is reached. None: as told.
        gradients: "window": one pass, whatever T; "time": back through every step; "auto": time for networks of neurons
            if and lif, else window. See :class:`~snnconvert.trainable.gradients.Gradients`.
        surrogate: slope of binary spikes through time: "atan", "sigmoid" or "triangle".
        surrogate_alpha: how steep it is, see :mod:`snnconvert.trainable.surrogate`.
        truncation: steps after which gradients through time stop; 0: none.
        checkpoint_steps: optimizer steps between two checkpoints; 0: one after each epoch.
        seed: of the order of samples and of augmentations.
    """

    epochs: int = 20
    batch_size: int = 64
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    scale_rate: float = 1.0
    warmup: float = 0.05
    weight_decay: float = 1e-4
    clip: float = 1.0
    distillation: float = 0.9
    temperature: float = 2.0
    matching: str = "auto"
    block_distillation: float = 0.0
    ema: float = 0.0
    augmentation: str = "none"
    mixup: float = 0.0
    precision: str = "float32"
    activation_penalty: float = 0.0
    gram_penalty: float = 0.0
    target_sparsity: float | None = None
    gradients: str = "auto"
    surrogate: str = "atan"
    surrogate_alpha: float = 2.0
    truncation: int = 0
    checkpoint_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fewest in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("checkpoint_steps", 0), ("seed", 0)):
            _check_whole(name, getattr(self, name), fewest)
        for name, low, high in (
            ("learning_rate", 0.0, math.inf),
            ("scale_rate", 0.0, math.inf),
            ("warmup", 0.0, 0.9),
            ("weight_decay", 0.0, math.inf),
            ("clip", 0.0, math.inf),
            ("distillation", 0.0, 1.0),
            ("temperature", 1e-3, 1e3),
            ("block_distillation", 0.0, math.inf),
            ("ema", 0.0, 0.999999),
            ("mixup", 0.0, 1e3),
            ("activation_penalty", 0.0, math.inf),
            ("gram_penalty", 0.0, math.inf),
        ):
            _check_number(name, getattr(self, name), low, high)
        if self.target_sparsity is not None:
            _check_number("target_sparsity", self.target_sparsity, 0.0, 1.0)
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
            ("augmentation", AUGMENTATIONS),
            ("gradients", GRADIENTS),
            ("matching", MATCHINGS),
        ):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        self._way("time")
        if self.batch_size % self.accumulate:
            raise ConfigurationError(
                f"batch_size {self.batch_size} can't be taken in {self.accumulate} equal parts: change one of them"
            )

    def way(self, default: Gradients) -> Gradients:
        """The way gradients take through a network.

        Args:
            default: the one that suits it, taken where ``gradients`` is "auto".
        """
        return self._way(default.through if self.gradients == "auto" else self.gradients)

    def _way(self, through: str) -> Gradients:
        surrogate = Surrogate(self.surrogate, self.surrogate_alpha)
        return Gradients("time" if through == "time" else "window", surrogate, self.truncation)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; :meth:`from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FinetuneConfig:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ConfigurationError: if a key is unknown or a value out of range.
        """
        unknown = sorted(set(data) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ConfigurationError(f"unknown training settings: {', '.join(unknown)}")
        return cls(**data)


def _check_whole(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < _LARGEST:
        raise ConfigurationError(f"{name} must be an integer of at least {low}, got {value!r}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= float(value) <= high:  # type: ignore[arg-type]
        span = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise ConfigurationError(f"{name} must be a number {span}, got {value!r}")
