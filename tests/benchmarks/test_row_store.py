import json

import pytest

from benchmarks.row_store import RowStore


def test_rows_come_back_from_the_file_by_their_identity(tmp_path):
    path = tmp_path / "rows.json"
    store = RowStore("accuracy", ("network", "config"), path)
    store.add({"network": "a", "config": {"x": 1, "y": [2]}, "snn": 0.5})
    store.add({"network": "b", "config": {"x": 1, "y": [2]}, "snn": 0.6})
    again = RowStore("accuracy", ("network", "config"), path)
    assert again.find({"network": "a", "config": {"y": [2], "x": 1}})["snn"] == 0.5
    assert again.find({"network": "a", "config": {"x": 2, "y": [2]}}) is None


def test_a_row_of_the_same_identity_is_replaced(tmp_path):
    path = tmp_path / "rows.json"
    store = RowStore("accuracy", ("network",), path)
    store.add({"network": "a", "error": "no"})
    store.add({"network": "a", "snn": 1.0})
    assert json.loads(path.read_text()) == {"benchmark": "accuracy", "rows": [{"network": "a", "snn": 1.0}]}
    assert [item.name for item in tmp_path.iterdir()] == ["rows.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"benchmark": "coverage", "rows": []}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"rows\.json"):
        RowStore("accuracy", ("network",), path)
    assert path.read_text() == text
