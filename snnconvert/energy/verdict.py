"""A model's figures in words: where the spiking network wins, where it doesn't, and what would have to change."""

from __future__ import annotations

from collections.abc import Mapping

from snnconvert.energy.break_even import BreakEven
from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.model import EnergyModel

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_JOULES = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))
_LAYERS_NAMED = 4


def spelled_cost(value: float, unit: str) -> str:
    """A cost with three digits: 12.1 µJ, 234 G bit pairs."""
    steps = _JOULES if unit == "pJ" else _PREFIXES
    factor, prefix = next(((size, name) for size, name in steps if value >= size), steps[-1])
    shown = f"{value / factor:.3g}"
    return f"{shown} {prefix}" if unit == "pJ" else f"{shown} {prefix + ' ' if prefix else ''}{unit}"


def verdict(
    model: EnergyModel,
    hardware: str,
    totals: Mapping[str, Cost],
    layers: Mapping[str, Mapping[str, float]],
    even: Mapping[str, BreakEven],
) -> tuple[str, ...]:
    """Sentences on one model, each with its name.

    Args:
        model: the model.
        hardware: the profile's name.
        totals: by network.
        layers: totals by layer and network.
        even: by rival.
    """
    costs = {Network(name): cost.total for name, cost in totals.items()}
    serial, twin = costs[Network.SNN_SERIAL], costs[Network.TWIN_QNN]
    name = model.title if model.unit != "pJ" else f"{model.title} ({hardware})"
    lines = [
        f"{name}: {_against_twin(model, costs)}",
        f"{name}: against the ANN in 8 bits {_ratio(serial, costs[Network.ANN_INT8])} bit by bit and "
        f"{_ratio(costs[Network.SNN_PACKED], costs[Network.ANN_INT8])} packed, in float32 "
        f"{_ratio(serial, costs[Network.ANN_FLOAT32])} and "
        f"{_ratio(costs[Network.SNN_PACKED], costs[Network.ANN_FLOAT32])}.",
        f"{name}: {_conditions(even[Network.TWIN_QNN.value], 'its twin', wins=serial < twin)}",
    ]
    winners = [
        layer
        for layer, by_network in layers.items()
        if by_network[Network.SNN_SERIAL.value] < by_network[Network.TWIN_QNN.value]
    ]
    return (*lines, f"{name}: {_winning_layers(winners, len(layers))}")


def _against_twin(model: EnergyModel, costs: Mapping[Network, float]) -> str:
    twin, packed = costs[Network.TWIN_QNN], costs[Network.SNN_PACKED]
    serial = spelled_cost(costs[Network.SNN_SERIAL], model.unit)
    if not twin:
        words = spelled_cost(packed, model.unit)
        return f"the spiking network takes {serial} an image sent bit by bit and {words} packed, its twin nothing."
    return (
        f"sent bit by bit, the spiking network takes {_ratio(costs[Network.SNN_SERIAL], twin)} its twin's "
        f"{_what(model)} ({serial} against {spelled_cost(twin, model.unit)} an image), packed {_ratio(packed, twin)}."
    )


def _what(model: EnergyModel) -> str:
    return "energy" if model.unit == "pJ" else "effort"


def _ratio(cost: float, reference: float) -> str:
    return f"{cost / reference:.3g} times" if reference > 0 else "an undefined multiple"


def _conditions(even: BreakEven, rival: str, *, wins: bool) -> str:
    measured = f"{100 * even.measured_rate:.3g} %"
    if even.outcome == "always":
        return f"bit by bit it beats {rival} at any firing rate."
    steps = (
        ""
        if even.most_steps is None
        else f"windows of at most {even.most_steps} binary step{'s' * (even.most_steps > 1)}"
    )
    if even.outcome == "silent":
        told = "no spike was sent" if not even.measured_rate else "layers that read no spike at all are no measure"
        return f"{told}: bit by bit it beats {rival} as it is; up to which firing rate can't be told."
    if even.outcome == "never" or even.rate is None:
        only = f", only with {steps}" if steps else ""
        if not even.measured_rate:
            return f"no spike was sent, and even so it doesn't beat {rival} bit by bit{only}."
        return f"bit by bit it can't beat {rival} at any firing rate{only}."
    below = f"fewer than {100 * even.rate:.3g} % of the bits sent"
    if wins:
        return f"bit by bit it beats {rival} as long as {below} are ones (measured {measured})."
    also = f", or with {steps}" if steps else ""
    return f"bit by bit it would beat {rival} if {below} were ones (measured {measured}){also}."


def _winning_layers(winners: list[str], layers: int) -> str:
    if not winners:
        return "no layer is cheaper bit by bit than in its twin."
    more = f" and {len(winners) - _LAYERS_NAMED} more" if len(winners) > _LAYERS_NAMED else ""
    return f"{len(winners)} of {layers} layers are cheaper bit by bit than in the twin: " + (
        f"{', '.join(winners[:_LAYERS_NAMED])}{more}."
    )
