"""Trains a network of learned widths on a loader, with the ANN for a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from snnconvert.allocation.finish import labelled_leaves
from snnconvert.allocation.twin import floating_outputs
from snnconvert.calibration.statistics.collect import Statistics
from snnconvert.errors import ConfigurationError, InputError
from snnconvert.finishing import thresholds_of
from snnconvert.neurons.code import check_range
from snnconvert.preparation import PreparedConversion
from snnconvert.spiking_model import SpikingModel
from snnconvert.training.learned_bits.config import LearnedBitsConfig
from snnconvert.training.learned_bits.landing import land
from snnconvert.training.learned_bits.network import LearnedBitsNetwork

Loss = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | None], Tensor]
_TINY = 1e-12


@dataclass(frozen=True)
class LearningSchedule:
    """How long and how fast: Adam whose rate falls from its peak to zero along a cosine.

    Attributes:
        epochs: passes over the loader.
        learning_rate: the peak; each kind of parameters multiplies it.
        largest_gradient: gradients are scaled to this norm where theirs is larger, each kind by itself.
    """

    epochs: int = 8
    learning_rate: float = 1e-3
    largest_gradient: float = 5.0

    def __post_init__(self) -> None:
        check_range(self.epochs, 1, 1 << 20, "epochs")
        for name in ("learning_rate", "largest_gradient"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
                raise ConfigurationError(f"{name} must be positive, got {value!r}")


def distillation_loss(outputs: Sequence[Tensor], teacher: Sequence[Tensor], labels: Tensor | None) -> Tensor:
    """KL(teacher ‖ outputs) of logits [N, classes, ...], plus the cross-entropy where there are labels [N].

    Of outputs that are no logits, or several, the mean of ‖y − z‖²/‖z‖² instead, and labels count for nothing.

    Args:
        outputs: floating outputs y.
        teacher: those of the ANN, z.
        labels: int64 [N], or None.
    """
    if len(outputs) != 1 or outputs[0].dim() < 2:
        pairs = zip(outputs, teacher, strict=True)
        errors = [(y - z).square().sum() / z.square().sum().clamp(min=_TINY) for y, z in pairs]
        return torch.stack(errors).mean()
    logits, wanted = outputs[0], teacher[0]
    divergence = F.kl_div(logits.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="none").sum(1).mean()
    if labels is None or logits.dim() != 2:
        return divergence
    return divergence + F.cross_entropy(logits, labels.to(logits.device))


def learn_bits(
    prepared: PreparedConversion,
    statistics: Statistics,
    loader: Iterable[Any] | Tensor,
    config: LearnedBitsConfig | None = None,
    schedule: LearningSchedule | None = None,
    *,
    transform: Callable[[Any], Any] | None = None,
    loss: Loss = distillation_loss,
    progress: bool = False,
) -> SpikingModel:
    """The spiking network whose widths, weights and thresholds were trained together.

    Args:
        prepared: the network, prepared with ``narrow=True``; its plan has the widths to start at.
        statistics: of its calibration pass.
        loader: training batches, read once an epoch; with labels where it gives (input, label) pairs.
        config: of the widths.
        schedule: of the training.
        transform: turns an item of the loader into inputs.
        loss: of the outputs, the ANN's outputs and the labels.
        progress: show a progress bar.

    Raises:
        ConfigurationError: as :class:`LearnedBitsNetwork`.
        InputError: if the loader can be read only once or gives nothing.
        ConversionError: if a sum of currents can't be proven exact.
    """
    thresholds, _ = thresholds_of(prepared, statistics)
    network = LearnedBitsNetwork(prepared, thresholds, config)
    train(network, loader, schedule, transform=transform, loss=loss, progress=progress)
    return land(network, statistics)


def train(
    network: LearnedBitsNetwork,
    loader: Iterable[Any] | Tensor,
    schedule: LearningSchedule | None = None,
    *,
    transform: Callable[[Any], Any] | None = None,
    loss: Loss = distillation_loss,
    progress: bool = False,
) -> None:
    """Trains a network of learned widths in place and leaves it in evaluation mode; see :func:`learn_bits`.

    Raises:
        InputError: if the loader can be read only once or gives nothing.
    """
    schedule = schedule or LearningSchedule()
    if isinstance(loader, Iterator) and schedule.epochs > 1:
        raise InputError("the training loader can be read only once: give a list or a DataLoader")
    optimizer = _Optimizer(network, schedule)
    shown = tqdm(range(schedule.epochs), desc="learning widths", unit="epoch", disable=None if progress else True)
    network.train()
    for epoch in shown:
        done = 0
        for leaves, labels in labelled_leaves(network.prepared, loader, transform):
            inputs = [leaf.to(network.prepared.device) for leaf in leaves]
            with torch.no_grad():
                teacher = floating_outputs(network.prepared.graph(*inputs))
            with torch.enable_grad():
                outputs = floating_outputs(network(*inputs))
                objective = loss(outputs, teacher, labels) + network.penalty()
            optimizer.step(objective, _progress(epoch, done, loader, schedule.epochs))
            done += 1
            network.after_step(_progress(epoch, done, loader, schedule.epochs))
        if done == 0:
            raise InputError("the training loader is empty: give it at least one batch")
        network.after_step((epoch + 1) / schedule.epochs)
    if not network.settled:
        network.settle()
    network.eval()


def _progress(epoch: int, done: int, loader: Iterable[Any] | Tensor, epochs: int) -> float:
    """The share of a training that is over; by whole epochs where a loader doesn't tell its length."""
    known = isinstance(loader, Sized) and not isinstance(loader, Tensor) and len(loader) > 0
    within = min(done / len(loader), 1.0) if known else 0.0  # type: ignore[arg-type]
    return (epoch + within) / epochs


class _Optimizer:
    def __init__(self, network: LearnedBitsNetwork, schedule: LearningSchedule) -> None:
        self._groups, self._schedule = network.parameter_groups(), schedule
        self._adam = torch.optim.Adam(
            [
                {"params": group["params"], "weight_decay": group["weight_decay"], "peak": self._peak(group)}
                for group in self._groups
            ],
            lr=schedule.learning_rate,
        )

    def _peak(self, group: dict[str, Any]) -> float:
        return float(self._schedule.learning_rate * group["lr_multiplier"])

    def step(self, objective: Tensor, progress: float) -> None:
        self._adam.zero_grad(set_to_none=True)
        objective.backward()  # type: ignore[no-untyped-call]
        for group in self._adam.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], self._schedule.largest_gradient)
            group["lr"] = group["peak"] * (1 + math.cos(math.pi * progress)) / 2
        self._adam.step()
