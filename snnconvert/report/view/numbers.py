"""Numbers as people read them: three significant digits, decimal prefixes, a typographic minus."""

from __future__ import annotations

import math

_PREFIXES = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P", 6: "E"}
_PICO = 1e-12
ABSENT = "–"


def digits(value: float) -> str:
    """Three significant digits without an exponent where that is short: 24.9, 0.0369, 1,240."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "∞" if value > 0 else ABSENT
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    shown = f"{value:.2e}" if exponent < -4 else f"{value:,.{max(2 - exponent, 0)}f}"
    return shown.replace("-", "−")


def count(value: float, unit: str = "") -> str:
    """A count with a decimal prefix from a thousand on: 640, 29.3 M; with a unit 55.3 kB."""
    if abs(value) < 1000:
        shown = str(int(value)) if value == int(value) else digits(value)
        return f"{shown} {unit}".rstrip()
    return _prefixed(value, unit)


def energy(picojoules: float) -> str:
    """An energy given in pJ: 24.9 µJ."""
    return _prefixed(picojoules * _PICO, "J") if picojoules else "0 J"


def cost(value: float, unit: str) -> str:
    """A cost in the unit of its model: of pJ an energy, else a count."""
    return energy(value) if unit == "pJ" else count(value)


def scale(largest: float, unit: str) -> tuple[float, str]:
    """What to divide costs by so that the largest is below 1000, and the unit that gives: (1e6, "µJ")."""
    base, symbol = (_PICO, "J") if unit == "pJ" else (1.0, unit)
    order = _order(largest * base) if largest else 0
    prefix = _PREFIXES[order]
    return 1000.0**order / base, f"{prefix}{symbol}" if unit == "pJ" else f"{prefix} {symbol}".strip()


def times(value: float | None) -> str:
    """A ratio: 2.00×."""
    return ABSENT if value is None else f"{digits(value)}×"


def percent(share: float | None, places: int = 1) -> str:
    """A share in percent: 21.4 %; only what is all or nothing reads 100 % or 0 %."""
    if share is None:
        return ABSENT
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    edge = 10.0**-places
    if 0 < share < edge / 200:
        return f"< {edge:.{places}f} %"
    if 1 - edge / 200 < share < 1:
        return f"> {100 - edge:.{places}f} %"
    return f"{100 * share:.{places}f} %".replace("-", "−")


def points(share: float) -> str:
    """A difference of shares in points: +0.37."""
    return f"{100 * share:+.2f}".replace("-", "−")


def decimal(value: float | None, places: int) -> str:
    """A number with so many places."""
    return ABSENT if value is None else f"{value:,.{places}f}".replace("-", "−")


def short(value: float) -> str:
    """A number with at most four digits and no zeros behind: 64, 14.22."""
    return f"{value:.4g}".replace("-", "−")


def ratio(value: float, reference: float) -> float | None:
    """The quotient value / reference; None where that means nothing."""
    return value / reference if reference else None


def _prefixed(value: float, unit: str) -> str:
    order = _order(value)
    return f"{digits(value / 1000.0**order)} {_PREFIXES[order]}{unit}".rstrip()


def _order(value: float) -> int:
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}")))) if value else 0
    return min(max(exponent // 3, min(_PREFIXES)), max(_PREFIXES))
