"""What an allocation found: the widths it gave, and what it predicted and measured on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AllocationRound:
    """One allocation that was converted and measured.

    Attributes:
        bit_budget: mean BB = T·b_w·b_s, weighted by multiply-accumulates.
        predicted_error: sum of the sensitivities of its widths, a relative squared error of the output.
        measured_error: relative squared error of the output on the sample.
        top1_agreement: share of decisions on the sample that are the ANN's; None where it isn't clear which
            of several outputs holds them.
        energy_uj: of the synapses, microjoules per image; None where neurons aren't packed.
        drop: points lost; None where it wasn't measured.
    """

    bit_budget: float
    predicted_error: float
    measured_error: float
    top1_agreement: float | None
    energy_uj: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class Allocation:
    """The allocation of a conversion.

    Attributes:
        objective: "budget", "max_drop" or "target_energy".
        target: its value: mean bit budget, points, or microjoules per image.
        images: how many images sensitivities were measured on.
        rounds: what was tried, in order.
        chosen: index of the round that was kept.
        overrides: (T, bits, weight_bits) of each layer, where it was free to choose.
    """

    objective: str
    target: float
    images: int
    rounds: tuple[AllocationRound, ...]
    chosen: int
    overrides: Mapping[str, Mapping[str, int]]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Allocation:
        """Reads what ``dataclasses.asdict`` gives.

        Raises:
            TypeError: if a field is missing or unknown.
            KeyError: if there are no rounds.
        """
        rounds = tuple(AllocationRound(**item) for item in data["rounds"])
        return cls(**{**data, "rounds": rounds, "overrides": {k: dict(v) for k, v in data["overrides"].items()}})
