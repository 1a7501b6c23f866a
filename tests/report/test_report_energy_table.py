"""The table of energies on a terminal: one row a model, with the figures of the account."""

from snnconvert.energy.comparison import compare_energy
from snnconvert.energy.profile import load_profile
from snnconvert.energy.workload import LayerWork, Workload
from snnconvert.report.energy_table import energy_table

WORK = Workload((LayerWork("a", 2_000_000, 64, 500, 900, 640, 8, 2, 4, 256, 0.4, 0.25, 0.6),), 100, 10, 20)
ENERGY_UNITS = {"pJ": 1, "nJ": 1e3, "µJ": 1e6, "mJ": 1e9}
PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}


def read(cell):
    number, unit = cell.split()
    return float(number) * (ENERGY_UNITS | PREFIXES)[unit]


def test_every_model_has_a_row_with_its_totals():
    account = compare_energy(WORK, load_profile("neuromorphic22"))
    lines = energy_table(account).splitlines()
    assert "22 nm neuromorphic" in lines[0]
    rows = {line.split()[0]: [cell for cell in line.split("  ") if cell.strip()] for line in lines[5:]}
    assert list(rows) == [item.model for item in account.models]
    for item in account.models:
        _, *costs, ratio, even = rows[item.model]
        totals = {name: cost.total for name, cost in item.totals.items()}
        for cell, total in zip(costs, totals.values(), strict=True):
            assert abs(read(cell) / total - 1) < 6e-3
        assert abs(float(ratio) / (totals["snn_serial"] / totals["twin_qnn"]) - 1) < 6e-3
        rate = item.break_even["twin_qnn"].rate
        assert even.strip() == item.break_even["twin_qnn"].outcome or abs(float(even.split()[0]) - 100 * rate) < 0.1
