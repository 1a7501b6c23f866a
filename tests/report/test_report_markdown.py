import dataclasses
import re

from snnconvert.report.markdown import markdown_text


def tables(text):
    """The cells of every table, row by row, escapes taken back."""
    found, current = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            current.append(cells)
        elif current:
            found.append(current)
            current = []
    return found


def test_tables_have_the_reports_shape(small_report):
    totals, energy, layers = tables(markdown_text(small_report))
    for table in (totals, energy, layers):
        assert len({len(row) for row in table}) == 1
        assert all(re.fullmatch(r":--|--:", cell) for cell in table[1])
    assert len(layers) == 2 + len(small_report.layers)
    assert [row[1] for row in layers[2:]] == [layer.name for layer in small_report.layers]
    assert [float(row[12]) for row in layers[2:]] == [round(layer.sqnr_db, 1) for layer in small_report.layers]
    assert [row[0].split(" (")[0] for row in energy[2:]] == [model.title for model in small_report.energy.models]
    assert len(totals) == 2 + len(dataclasses.fields(small_report.totals))


def test_names_stay_text(small_report):
    evil = "a|b`c<script>*d*\n| e"
    layers = tuple(dataclasses.replace(layer, name=evil) for layer in small_report.layers)
    text = markdown_text(dataclasses.replace(small_report, layers=layers, notes=(evil,)))
    assert "\\<script\\>" in text
    assert not re.search(r"(?<!\\)<", text)
    rows = tables(text)[-1]
    assert len({len(row) for row in rows}) == 1
    assert rows[2][1] == "a|b`c<script>*d* | e"


def test_allocation_analog_remainder_and_origin_are_there(small_report, labelled_report):
    text = markdown_text(small_report)
    for item in small_report.analog:
        assert item.name in text.replace("\\", "")
    assert "```sh\nsnnconvert small --bits 1" in text
    assert "2 (kept)" in markdown_text(labelled_report)
