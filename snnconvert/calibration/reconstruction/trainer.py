"""Trains one block's weights and thresholds to give what the ANN gives behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.calibration.reconstruction.blocks import Block
from snnconvert.calibration.reconstruction.runner import BlockRunner, SoftModule, Values
from snnconvert.calibration.reconstruction.soft import SoftNeuron, SoftSynapse

_WARM_UP, _FIRST_BETA, _LAST_BETA, _GROWTH = 0.2, 20.0, 2.0, 1e3
View = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a block is trained.

    Attributes:
        steps: optimizer steps of each block.
        rate: learning rate of V, the weights' positions between two integers.
        bias_rate: learning rate of biases, in standard deviations of currents.
        scale_rate: learning rate of logarithms: of neurons' gains, and of what weights' integers are worth.
        batch: samples a step.
        kept: share of neurons that fire without rounding in a step, and of inputs as the ANN has them.
    """

    steps: int
    rate: float = 5e-2
    bias_rate: float = 1e-3
    scale_rate: float = 2e-3
    pressure: float = 1.0
    kept: float = 0.5
    batch: int = 32


@dataclass(frozen=True)
class Lesson:
    """What a block sees and should give, on all samples.

    Attributes:
        spiking: inputs as the spiking network computes them, [N, ...] each, or the same for all samples.
        ideal: inputs as the ANN does.
        targets: outputs of the ANN, in the units of the spiking network.
        views: how each output is compared: as the neurons behind it see it.
        batched: inputs whose first dimension is the sample.
    """

    spiking: Mapping[fx.Node, Any]
    ideal: Mapping[fx.Node, Any]
    targets: Mapping[fx.Node, Tensor]
    views: Mapping[fx.Node, View]
    batched: frozenset[fx.Node]
    samples: int


def train(
    runner: BlockRunner,
    block: Block,
    soft: Mapping[str, SoftModule],
    lesson: Lesson,
    schedule: Schedule,
    error: float,
    random: torch.Generator,
) -> None:
    """Minimizes Σ over outputs of ‖view(soft) − view(ANN)‖² / var(view(ANN)) + λ·Σ(1 − |2h − 1|^β) with Adam.

    β falls from 20 to 2 after a fifth of the steps, which drives weights to integers; λ is the error of the
    untrained block, shared among its weights.
    """
    synapses = [module for module in soft.values() if isinstance(module, SoftSynapse)]
    factors = [module.log_factor for module in soft.values() if isinstance(module, SoftNeuron)]
    positions = [synapse.position for synapse in synapses]
    optimizer = torch.optim.Adam(
        [
            {"params": positions, "lr": schedule.rate},
            {"params": [synapse.bias for synapse in synapses], "lr": schedule.bias_rate},
            {"params": [*factors, *(synapse.log_scale for synapse in synapses)], "lr": schedule.scale_rate},
        ]
    )
    scales = {node: _scale(lesson.views[node](target)) for node, target in lesson.targets.items()}
    pressure = schedule.pressure * error / max(sum(position.numel() for position in positions), 1)
    batch = min(schedule.batch, lesson.samples)
    for step in range(schedule.steps):
        chosen = torch.randperm(lesson.samples, generator=random, device=random.device)[:batch]
        inputs = _mixed(lesson, chosen, schedule.kept, random)
        results = runner.run_block(block, inputs, soft, random, schedule.kept)
        loss = torch.zeros(())
        for node, target in lesson.targets.items():
            view = lesson.views[node]
            loss = loss + (view(results[node].float()) - view(target[chosen].float())).square().mean() / scales[node]
        progress = (step / schedule.steps - _WARM_UP) / (1 - _WARM_UP)
        if progress > 0:
            beta = _LAST_BETA + (_FIRST_BETA - _LAST_BETA) * 0.5 * (1 + math.cos(math.pi * progress))
            for synapse in synapses:
                loss = loss + pressure * _GROWTH**progress * (1 - (2 * synapse.share() - 1).abs().pow(beta)).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def error_of(results: Mapping[fx.Node, Tensor], lesson: Lesson) -> float:
    """What training minimizes, on all samples, for what a block really gives."""
    total = 0.0
    for node, target in lesson.targets.items():
        view = lesson.views[node]
        expected = view(target)
        total += float((view(results[node].float()) - expected).square().mean()) / _scale(expected)
    return total


def _mixed(lesson: Lesson, chosen: Tensor, kept: float, random: torch.Generator) -> Values:
    """Inputs of some samples, a share of their elements as the ANN has them."""
    inputs: Values = {}
    for node, value in lesson.spiking.items():
        if node not in lesson.batched:
            inputs[node] = value
            continue
        spiking, ideal = value[chosen], lesson.ideal[node][chosen]
        if kept == 0 or not spiking.is_floating_point():
            inputs[node] = spiking
            continue
        share = torch.empty_like(spiking, dtype=torch.float32).bernoulli_(kept, generator=random)
        inputs[node] = torch.lerp(spiking.float(), ideal.float(), share)
    return inputs


def _scale(values: Tensor) -> float:
    return max(float(values.float().var()), 1e-30)
