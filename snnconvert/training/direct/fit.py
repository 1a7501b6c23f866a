"""A plain training loop for small networks: cross-entropy, a cosine schedule, one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.errors import ConfigurationError, InputError
from snnconvert.neurons.code import check_range
from snnconvert.training.direct.augment import Augmentation
from snnconvert.training.schedule import rate_factor

OPTIMIZERS = ("adamw", "sgd")
_MOST = 1 << 31


@dataclass(frozen=True)
class FitSettings:
    """How a network is trained.

    Attributes:
        epochs: passes over the training set.
        batch_size: examples in a step.
        optimizer: "adamw", or "sgd" with Nesterov momentum 0.9.
        learning_rate: peak; it rises over the first ``warmup`` of all steps and falls to 0 on half a cosine.
        warmup: share of steps, 0 up to but not including 1.
        weight_decay: of weights; norms, biases and thresholds have none.
        label_smoothing: of the cross-entropy.
        largest_gradient: norm to which gradients are clipped.
        seed: of the order of examples and of the augmentation.

    Raises:
        ConfigurationError: naming the field that is out of range.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    warmup: float = 0.1
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    largest_gradient: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigurationError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        for name in ("epochs", "batch_size"):
            check_range(getattr(self, name), 1, _MOST, name)
        check_range(self.seed, 0, _MOST, "seed")
        for name in ("learning_rate", "largest_gradient"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name, high in (("warmup", 1.0), ("label_smoothing", 1.0), ("weight_decay", math.inf)):
            if not 0 <= getattr(self, name) < high:
                raise ConfigurationError(f"{name} must lie between 0 and {high:g}, got {getattr(self, name)!r}")


def fit(
    network: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    settings: FitSettings | None = None,
    augment: Augmentation | None = None,
) -> list[float]:
    """Trains a network in place and leaves it in evaluation mode.

    Same weights at the start, same settings and machine: same weights at the end.

    Args:
        network: gives logits [N, classes].
        inputs: images float32 [N, C, H, W] or event frames float32 [T, N, C, H, W], on any device.
        labels: int64 [N].
        settings: how; None: the defaults.
        augment: applied to every batch, such as :func:`~snnconvert.training.direct.augment.flip_and_crop`.

    Returns:
        The mean loss of each epoch.

    Raises:
        InputError: if numbers of inputs and labels differ, or the loss isn't finite.
    """
    settings = settings or FitSettings()
    _check(inputs, labels)
    generator = torch.Generator().manual_seed(settings.seed)
    device = next(network.parameters()).device
    optimizer = _optimizer(network, settings)
    steps = math.ceil(len(labels) / settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, steps, settings.warmup))
    losses = []
    network.train()
    for epoch in range(settings.epochs):
        total = 0.0
        for chosen in torch.split(torch.randperm(len(labels), generator=generator), settings.batch_size):
            batch = _examples(inputs, chosen)
            batch = batch if augment is None else augment(batch, generator)
            logits = network(batch.to(device))
            loss = F.cross_entropy(
                logits, labels[chosen.to(labels.device)].to(device), label_smoothing=settings.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), settings.largest_gradient)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        if not math.isfinite(total):
            raise InputError(f"the loss is {total} in epoch {epoch + 1}: lower learning_rate, or look at the inputs")
        losses.append(total / len(labels))
    network.eval()
    return losses


@torch.no_grad()
def accuracy(network: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 250) -> float:
    """The share of examples whose largest logit is the label's, 0..1.

    Args:
        network: in evaluation mode.
        inputs: as :func:`fit` takes them.
        labels: int64 [N].
        batch_size: examples at a time.

    Raises:
        InputError: if numbers of inputs and labels differ.
    """
    return float(decided_right(network, inputs, labels, batch_size).double().mean())


@torch.no_grad()
def decided_right(network: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 250) -> Tensor:
    """Whether the largest logit is the label's, for each example, bool [N]; as :func:`accuracy` otherwise."""
    _check(inputs, labels)
    device = next(network.parameters()).device
    right = []
    for chosen in torch.split(torch.arange(len(labels)), batch_size):
        guesses = network(_examples(inputs, chosen).to(device)).argmax(1)
        right.append((guesses.to(labels.device) == labels[chosen.to(labels.device)]).cpu())
    return torch.cat(right)


def _check(inputs: Tensor, labels: Tensor) -> None:
    count = inputs.shape[1] if inputs.dim() == 5 else inputs.shape[0]
    if not len(labels) or count != len(labels):
        raise InputError(f"inputs {list(inputs.shape)} hold {count} examples, labels {len(labels)}")


def _examples(inputs: Tensor, chosen: Tensor) -> Tensor:
    return inputs.index_select(1 if inputs.dim() == 5 else 0, chosen.to(inputs.device))


def _optimizer(network: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, settings.learning_rate)
