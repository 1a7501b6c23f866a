"""Mixed widths against uniform ones on trained networks, as the benchmark measures it; skipped where the data isn't."""

import json

import pytest
from real_folders import data_or_skip

from benchmarks.allocation import TARGET_TAU, main


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data"), [("mnist", "mnist"), ("gpt", "gpt_nano_sort")])
def test_mixed_widths_err_less_and_predicted_errors_rank(capsys, name, data):
    data_or_skip(data)
    main(["--networks", name])
    (found,) = json.loads(capsys.readouterr().out.splitlines()[-1])["networks"]
    assert found["kendall_tau_error"] >= TARGET_TAU
    for pair in found["equal_budget"]:
        assert pair["mixed"]["bit_budget"] <= pair["uniform"]["bit_budget"]
        assert pair["mixed"]["measured"] < pair["uniform"]["measured"] / 4
        assert pair["mixed"]["snn"] >= pair["uniform"]["snn"]
        assert pair["mixed"]["snn"] >= pair["mixed"]["ann"] - 0.002
