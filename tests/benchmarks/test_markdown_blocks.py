import pytest

from benchmarks.markdown import replace_block, table_lines


def test_cells_keep_their_columns():
    assert table_lines(("a", "b"), [["1|2", "3"]]) == ["| a | b |", "| --- | --- |", "| 1\\|2 | 3 |"]


def test_only_the_block_is_written_anew(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- begin one -->\nold\n<!-- end one -->\n\nmore\n", encoding="utf-8")
    replace_block(page, "one", ["new"])
    expected = "# Title\n\n<!-- begin one -->\n\nnew\n\n<!-- end one -->\n\nmore\n"
    assert page.read_text(encoding="utf-8") == expected
    replace_block(page, "one", ["new"])
    assert page.read_text(encoding="utf-8") == expected


def test_a_page_without_the_block_gets_it_at_its_end(tmp_path):
    page = tmp_path / "page.md"
    replace_block(page, "one", ["1"])
    replace_block(page, "two", ["2"])
    blocks = ["<!-- begin one -->\n\n1\n\n<!-- end one -->\n", "<!-- begin two -->\n\n2\n\n<!-- end two -->\n"]
    assert page.read_text(encoding="utf-8") == "\n".join(blocks)


@pytest.mark.parametrize("text", ["<!-- begin one -->", "<!-- end one --><!-- begin one -->"])
def test_broken_marks_are_refused(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="begin one"):
        replace_block(page, "one", ["1"])
    assert page.read_text(encoding="utf-8") == text
