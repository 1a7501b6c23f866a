"""The digest of the package's code: what changes it and what doesn't."""

import shutil
from pathlib import Path

import pytest

import snnconvert
from snnconvert.engines.integer.source_digest import package_digest, source_digest


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "package"
    (made / "part").mkdir(parents=True)
    (made / "one.py").write_text("x = 1\n")
    (made / "part" / "two.py").write_text("y = 2\n")
    return made


def _edit(folder):
    (folder / "part" / "two.py").write_text("y = 3\n")


def _add(folder):
    (folder / "three.py").write_text("")


def _rename(folder):
    (folder / "one.py").rename(folder / "uno.py")


def _move_text(folder):
    (folder / "one.py").write_text("")
    (folder / "part" / "two.py").write_text("x = 1\ny = 2\n")


@pytest.mark.parametrize("change", [_edit, _add, _rename, _move_text])
def test_every_change_of_the_code_changes_it(folder, change):
    before = source_digest(folder)
    change(folder)
    assert source_digest(folder) != before


def test_copies_have_the_same_and_other_files_count_for_nothing(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "notes.txt").write_text("not code")
    assert source_digest(copy) == source_digest(folder)


def test_the_packages_own_is_of_all_its_files():
    assert package_digest() == source_digest(Path(snnconvert.__file__).parent)
