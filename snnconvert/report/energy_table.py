"""Energies as text: every model's totals of the five networks, and its verdict on the twin."""

from __future__ import annotations

from snnconvert.energy.break_even import BreakEven
from snnconvert.energy.comparison import EnergyAccount, ModelResult
from snnconvert.energy.cost import Network
from snnconvert.energy.verdict import spelled_cost
from snnconvert.report.text import format_table

_SPELLED = {
    Network.ANN_FLOAT32: "ANN float32",
    Network.ANN_INT8: "ANN int8",
    Network.TWIN_QNN: "twin QNN",
    Network.SNN_SERIAL: "SNN serial",
    Network.SNN_PACKED: "SNN packed",
}


def energy_table(account: EnergyAccount) -> str:
    """One row a model, per image; the last columns: serial against the twin, and where they break even."""
    headers = ["model", *_SPELLED.values(), "serial/twin", "break-even"]
    rows = [_row(item) for item in account.models]
    return (
        f"energy per image with the constants of {account.hardware}; twin QNN: the quantized ANN of the same levels;\n"
        "serial: spikes bit by bit, packed: a window as one integer; break-even: share of ones among the bits sent\n"
        f"below which serial beats the twin\n{format_table(headers, rows)}"
    )


def _row(item: ModelResult) -> list[str]:
    totals = {Network(name): cost.total for name, cost in item.totals.items()}
    twin = totals[Network.TWIN_QNN]
    ratio = f"{totals[Network.SNN_SERIAL] / twin:.3g}" if twin else "-"
    costs = [spelled_cost(totals[network], item.unit).removesuffix(" bit pairs") for network in _SPELLED]
    return [item.model, *costs, ratio, _even(item.break_even[Network.TWIN_QNN.value])]


def _even(even: BreakEven) -> str:
    return even.outcome if even.rate is None else f"{100 * even.rate:.3g} %"
