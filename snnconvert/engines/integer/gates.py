"""Gated tables: which hold k·s(k)·m of grid points k, a product of bytes, with a gate s that runtimes know."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconvert.engines.integer.proof import LARGEST_BYTE
from snnconvert.neurons.byte_tables import GATE_STEPS, GATES, INVERSES, POTENTIALS, is_clear
from snnconvert.neurons.transfer import TableTransfer

_SHORT_BITS = 8
_EVALUATION = 2.0**-13  # how far off 255·g may be in float32, many times over
_FARTHEST = 0.5 - 2 * _EVALUATION


@dataclass(frozen=True)
class Gate:
    """k·rne(255·g(a·k))·m of grid points k.

    Attributes:
        name: of g, a key of GATES.
        inner: a, a float32 number.
        multiplier: m, of 8 bits.
    """

    name: str
    inner: float
    multiplier: float


def gate_of(transfer: TableTransfer) -> Gate | None:
    """The gate whose products are the values of a table, at each of its 256 grid points; None if there is none.

    Gates stay clear of ties by more than a float32 evaluation of g may be off, and the products, of 8 bits each, are
    exact in float32.

    Args:
        transfer: the table.
    """
    if len(transfer.table) != POTENTIALS or not -LARGEST_BYTE <= int(transfer.first) <= 0:
        return None
    values, first = transfer.table.double().cpu(), int(transfer.first)
    positions = torch.arange(first, first + POTENTIALS, dtype=torch.float64)
    places = positions != 0
    shares = values[places] / positions[places]
    largest = float(shares.max())
    if float(values[~places].abs().max()) != 0 or not float(shares.min()) >= 0 or largest == 0:
        return None
    for top in range(LARGEST_BYTE, LARGEST_BYTE // 2, -1):
        multiplier = largest / top
        if not _is_short(multiplier):
            continue
        found = _fitted(positions[places], shares / multiplier, multiplier)
        if found is not None:
            return found
    return None


def _is_short(number: float) -> bool:
    """Whether a number has at most 8 significant bits."""
    return (torch.tensor(number, dtype=torch.float64).frexp().mantissa.item() * 2.0**_SHORT_BITS).is_integer()


def _fitted(positions: Tensor, gates: Tensor, multiplier: float) -> Gate | None:
    """The gate with these values at positions other than 0."""
    if not bool((gates == gates.round()).all()):
        return None
    for name, inverse in INVERSES.items():
        ends = [_reached(inverse, (gates + off) / GATE_STEPS) / positions for off in (-_FARTHEST, _FARTHEST)]
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        middle = (float(low.max()) + float(high.min())) / 2
        if float(low.max()) >= float(high.min()) or math.isinf(middle):
            continue
        inner = torch.tensor(middle, dtype=torch.float32).double()
        computed = GATE_STEPS * GATES[name](inner * positions)
        if bool((computed.round() == gates).all()) and is_clear(computed, positions, _EVALUATION):
            return Gate(name, float(inner), multiplier)
    return None


def _reached(inverse: Callable[[Tensor], Tensor], gates: Tensor) -> Tensor:
    """Where a gate reaches values: infinitely far where it stops before."""
    places = inverse(gates.clamp(0.0, 1.0))
    return places.masked_fill(gates >= 1.0, math.inf).masked_fill(gates <= 0.0, -math.inf)
