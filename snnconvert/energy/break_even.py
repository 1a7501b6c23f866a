"""Where a spiking network begins to win: the activity, and the binary steps, at which two networks cost the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scipy.optimize import brentq

from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.model import EnergyModel
from snnconvert.energy.workload import LayerWork, Workload

_PRECISION = 1e-9
Outcome = Literal["crosses", "always", "never", "silent"]


@dataclass(frozen=True)
class BreakEven:
    """Where the spiking network, sent bit by bit, costs as much as another one.

    Attributes:
        outcome: "crosses": below ``rate`` it wins; "always" or "never": at any rate; "silent": at any rate of the
            layers that fired, but others read no spike at all, and at which rate it no longer would can't be told.
        rate: mean share of ones among the bits sent, with each layer's share in the proportions measured; None unless
            it crosses.
        sparsity: 1 − rate.
        measured_rate: the network's own.
        most_steps: the most binary steps of a window with which it wins at the measured rates; None where not even one.
    """

    outcome: Outcome
    rate: float | None
    sparsity: float | None
    measured_rate: float
    most_steps: int | None


def total_cost(model: EnergyModel, workload: Workload, network: Network) -> Cost:
    """The cost of a whole network for one image, element-wise operations included.

    The ANN in 8 bits does on real numbers what the spiking network does on them, and the rest on integers.
    """
    real, integer = _operations(workload, network)
    return sum((model.layer(layer, network) for layer in workload.layers), model.operations(real, integer))


def _operations(workload: Workload, network: Network) -> tuple[int, int]:
    """Element-wise operations on real numbers and on integers."""
    if network is Network.ANN_FLOAT32:
        return workload.ann_operations, 0
    if network is Network.ANN_INT8:
        real = min(workload.real_operations, workload.ann_operations)
        return real, workload.ann_operations - real
    return workload.real_operations, workload.integer_operations


def bit_rate(workload: Workload) -> float:
    """Mean share of ones among the bits sent, weighted by the multiply-accumulates of the spiking layers."""
    macs = sum(layer.macs for layer in workload.spiking_layers)
    return sum(layer.macs * layer.bit_density for layer in workload.spiking_layers) / macs if macs else 0.0


def break_even(model: EnergyModel, workload: Workload, rival: Network) -> BreakEven:
    """Where E_serial = E_rival, with all shares of spikes scaled alike by k:

        rate = mean ρ at the k with E_serial(k) = E_rival(k),   0 ≤ k·ρ ≤ 1

    A rival that gates its products by the words that are not zero gets cheaper with k, too.
    """  # noqa: D415

    def advantage(work: Workload) -> float:
        return total_cost(model, work, rival).total - total_cost(model, work, Network.SNN_SERIAL).total

    most_steps = _most_steps(advantage, workload)
    measured = bit_rate(workload)
    if advantage(workload.busier(0.0)) <= 0:
        return BreakEven("never", None, None, measured, most_steps)
    busiest = 1 / max(
        min((layer.bit_density for layer in workload.spiking_layers if layer.bit_density), default=1), 1e-6
    )
    if advantage(workload.busier(busiest)) >= 0:
        is_silent = not measured or any(layer.macs and not layer.bit_density for layer in workload.spiking_layers)
        return BreakEven("silent" if is_silent else "always", None, None, measured, most_steps)
    factor = brentq(lambda times: advantage(workload.busier(times)), 0.0, busiest, xtol=_PRECISION, rtol=_PRECISION)
    rate = bit_rate(workload.busier(factor))
    return BreakEven("crosses", rate, 1 - rate, measured, most_steps)


def _most_steps(advantage: Callable[[Workload], float], workload: Workload) -> int | None:
    longest = max((layer.planes for layer in workload.spiking_layers), default=0)
    for steps in range(longest, 0, -1):
        if advantage(_shortened(workload, steps)) > 0:
            return steps
    return None


def _shortened(workload: Workload, steps: int) -> Workload:
    """The same activity in windows of at most so many binary steps."""
    return dataclasses.replace(workload, layers=tuple(_shortened_layer(layer, steps) for layer in workload.layers))


def _shortened_layer(layer: LayerWork, steps: int) -> LayerWork:
    if not layer.spiking or layer.planes <= steps:
        return layer
    counts = layer.levels <= layer.planes * 2 and layer.planes > 1
    levels = steps + 1 if counts and layer.levels != 1 << layer.planes else 1 << steps
    return dataclasses.replace(layer, T=steps, spike_bits=1, levels=levels)
