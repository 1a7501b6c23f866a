"""Optimizers and the course of their learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from snnconvert.training.config import FinetuneConfig

_MOMENTUM = 0.9


@dataclass(frozen=True)
class Group:
    """Parameters that are trained alike.

    Attributes:
        name: what they are.
        parameters: the parameters.
        rate: their learning rate, as a multiple of the settings'.
        decays: whether weight decay applies to them.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    rate: float = 1.0
    decays: bool = False


def make_optimizer(groups: Sequence[Group], config: FinetuneConfig) -> Optimizer:
    """The optimizer of some groups; parameters that don't learn are left out."""
    settings = [
        {
            "params": [parameter for parameter in group.parameters if parameter.requires_grad],
            "lr": group.rate * config.learning_rate,
            "rate": group.rate,
            "weight_decay": config.weight_decay if group.decays else 0.0,
        }
        for group in groups
    ]
    settings = [group for group in settings if group["params"]]
    if config.optimizer == "adamw":
        return AdamW(settings)
    return SGD(settings, momentum=_MOMENTUM, nesterov=True)


def set_rate(optimizer: Optimizer, config: FinetuneConfig, step: int, steps: int) -> float:
    """Sets the learning rate of one of so many steps, and gives that of the weights."""
    rate = config.learning_rate * rate_factor(step, steps, config.warmup)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]
    return rate


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """(step + 1)/w in the first w steps, then ½·(1 + cos π·p) with p from 0 to 1."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))
