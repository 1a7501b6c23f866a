import csv
import dataclasses
import io

import pytest

from snnconvert.report.rows import csv_text
from snnconvert.report.schema import LayerReport


def test_rows_read_back_give_every_figure(small_report):
    rows = list(csv.DictReader(io.StringIO(csv_text(small_report), newline="")))
    twin = next(model for model in small_report.energy.models if model.model == "twin")
    assert len(rows) == len(small_report.layers)
    for row, layer in zip(rows, small_report.layers, strict=True):
        for item in dataclasses.fields(LayerReport):
            value = getattr(layer, item.name)
            told = row[item.name]
            assert (told == str(value)) if isinstance(value, (str, bool)) else (float(told) == value)
        for network, cost in twin.layers[layer.name].items():
            assert float(row[f"energy_{network}_pj"]) == pytest.approx(cost)


def test_odd_names_and_missing_values_survive(small_report):
    odd = 'a,"b"\nc'
    layers = (dataclasses.replace(small_report.layers[0], name=odd, sqnr_db=None),)
    text = csv_text(dataclasses.replace(small_report, layers=layers))
    assert text.count("\r\n") == 2
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["name"] == odd
    assert row["sqnr_db"] == ""
