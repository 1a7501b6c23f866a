"""How much of a network's metric its conversion may lose at each bit budget."""

from __future__ import annotations

from dataclasses import dataclass

_POINTS = {64: 0.5, 32: 1.0, 16: 2.0}
_PERCENT = {64: 1.0}
_OF_NETWORK = {"resnet20": {32: 0.3, 16: 0.8, 12: 2.0, 8: 6.0}}
_EXACT = 1e-9


@dataclass(frozen=True)
class Target:
    """The largest loss: in percentage points, or, if relative, in percent of the ANN's metric."""

    loss: float
    relative: bool = False

    def __str__(self) -> str:
        unit = "%" if self.relative else "point" if self.loss == 1 else "points"
        return f"within {self.loss:g} {unit}"

    def is_met(self, ann: float, snn: float) -> bool:
        """Whether the metrics, as fractions, are that close; a better SNN always is."""
        lost = difference(ann, snn, relative=self.relative)
        return -lost <= self.loss + _EXACT


def target_of(network: str, bit_budget: int, *, relative: bool) -> Target | None:
    """The target of a network at a bit budget, None where there is none.

    Args:
        network: its name, such as ``resnet20``.
        bit_budget: BB = T·b_w·b_s of its inner layers.
        relative: whether its metric is compared relatively, as those of dense outputs are.
    """
    if relative:
        return Target(_PERCENT[bit_budget], relative=True) if bit_budget in _PERCENT else None
    losses = {**_POINTS, **_OF_NETWORK.get(network, {})}
    return Target(losses[bit_budget]) if bit_budget in losses else None


def difference(ann: float, snn: float, *, relative: bool) -> float:
    """SNN minus ANN in percentage points; if relative, 100·(SNN − ANN) / ANN."""
    return 100 * (snn - ann) / (ann if relative else 1.0)
