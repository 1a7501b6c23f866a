import contextlib
import os

import pytest
import torch
from artifact_networks import FILES, contents

import snnconvert
from snnconvert import artifact_folder
from snnconvert.artifact.atomic import check_target, replaced_file, replaced_folder
from snnconvert.errors import InputError


class UnpluggedError(Exception):
    pass


def unplug(*_args, **_kwargs):
    raise UnpluggedError


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_is_made_with_its_parents(saved, home):
    saved[0].save(home / "a" / "b" / "net")
    assert set(names(home / "a" / "b" / "net")) == set(FILES)
    assert names(home / "a" / "b") == ["net"]


def test_an_empty_folder_is_filled(saved, home):
    (home / "net").mkdir()
    saved[0].save(home / "net")
    assert set(names(home / "net")) == set(FILES)
    assert names(home) == ["net"]


def test_a_path_may_be_a_string(saved, home):
    saved[0].save(str(home / "net"))
    assert set(names(home / "net")) == set(FILES)


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(saved, home):
    (home / "net").mkdir()
    (home / "net" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty") as caught:
        saved[0].save(home / "net")
    assert str(home / "net") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(home / "net") == {"diary.txt": b"mine"}
    assert names(home) == ["net"]


def test_force_replaces_the_whole_folder(saved, home):
    (home / "net").mkdir()
    (home / "net" / "old.txt").write_text("old")
    (home / "net" / "config.json").write_text("old")
    saved[0].save(home / "net", force=True)
    assert contents(home / "net") == contents(saved[2])
    assert names(home) == ["net"]


def test_force_without_a_folder(saved, home):
    saved[0].save(home / "net", force=True)
    assert contents(home / "net") == contents(saved[2])


@pytest.mark.parametrize("force", [False, True])
def test_a_file_in_the_way_is_refused_and_left_alone(saved, home, force):
    (home / "net").write_text("a file")
    with pytest.raises(InputError, match="not a folder"):
        saved[0].save(home / "net", force=force)
    assert (home / "net").read_text() == "a file"
    assert names(home) == ["net"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("target", ["folder", "nothing"])
def test_a_link_in_the_way_is_refused_and_left_alone(saved, home, tmp_path, force, target):
    (tmp_path / "folder").mkdir()
    (home / "net").symlink_to(tmp_path / target)
    with pytest.raises(InputError):
        saved[0].save(home / "net", force=force)
    assert (home / "net").is_symlink()
    assert names(home) == ["net"]
    assert names(tmp_path / "folder") == []


def test_a_parent_that_is_a_file_is_refused(saved, home):
    (home / "file").write_text("x")
    with pytest.raises(InputError) as caught:
        saved[0].save(home / "file" / "net")
    assert str(home / "file" / "net") in str(caught.value)
    assert (home / "file").read_text() == "x"


@pytest.mark.parametrize("broken", ["graph_to_json", "save_file", "graph_tensors", "file_checksum", "_write_json"])
def test_a_failure_midway_leaves_the_old_network(saved, home, monkeypatch, broken):
    snn, images, _ = saved
    snn.save(home / "net")
    before = contents(home / "net")
    monkeypatch.setattr(artifact_folder, broken, unplug)
    with pytest.raises(UnpluggedError):
        snn.save(home / "net", force=True)
    monkeypatch.undo()
    assert contents(home / "net") == before
    assert names(home) == ["net"]
    assert torch.equal(snnconvert.load(home / "net")(images), snn(images))


@pytest.mark.parametrize("broken", ["save_file", "file_checksum"])
def test_a_failure_midway_leaves_nothing_new(saved, home, monkeypatch, broken):
    monkeypatch.setattr(artifact_folder, broken, unplug)
    with pytest.raises(UnpluggedError):
        saved[0].save(home / "net")
    assert names(home) == []


def test_an_interruption_from_the_keyboard_leaves_the_old_network(home):
    (home / "net").mkdir()
    (home / "net" / "old").write_text("old")

    def interrupted():
        with replaced_folder(home / "net", force=True) as folder:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(home / "net") == {"old": b"old"}
    assert names(home) == ["net"]


def test_a_swap_that_fails_puts_the_old_network_back(saved, home, monkeypatch):
    """The new folder can't take its place once the old one was moved aside."""
    saved[0].save(home / "net")
    before = contents(home / "net")
    rename = type(home).rename

    def failing(self, target):
        if ".new-" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(type(home), "rename", failing)
    with pytest.raises((OSError, InputError)):
        saved[0].save(home / "net", force=True)
    monkeypatch.undo()
    assert contents(home / "net") == before
    assert names(home) == ["net"]


def test_a_full_disk_is_told_in_one_sentence(saved, home, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact_folder, "save_file", full)
    with pytest.raises(InputError, match="No space left on device") as caught:
        saved[0].save(home / "net")
    assert str(home / "net") in str(caught.value)


def test_the_current_folder_is_filled_or_refused(saved, home, monkeypatch):
    """Its own folder can't be renamed: a sentence or a saved network, but no half of one."""
    monkeypatch.chdir(home)
    try:
        saved[0].save(".")
    except InputError:
        assert names(home) == []
    else:
        assert contents(home) == contents(saved[2])


def test_a_saved_folder_can_be_read_by_others(saved, home):
    saved[0].save(home / "net")
    assert (home / "net").stat().st_mode & 0o777 == 0o755
    modes = {path.name: path.stat().st_mode & 0o777 for path in (home / "net").iterdir()}
    assert len(set(modes.values())) == 1, modes


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_is_read_only_is_refused(saved, home):
    home.chmod(0o500)
    try:
        with pytest.raises(InputError) as caught:
            saved[0].save(home / "net")
    finally:
        home.chmod(0o700)
    assert str(home / "net") in str(caught.value)
    assert names(home) == []


def test_targets_are_checked_without_being_touched(home):
    check_target(home / "new", force=False)
    check_target(home, force=False)
    assert names(home) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with replaced_file(target) as place:
        place.write_text("first")
    assert target.read_text() == "first"
    with pytest.raises(InputError, match="exists"), replaced_file(target, force=False) as place:
        place.write_text("second")
    with contextlib.suppress(RuntimeError), replaced_file(target) as place:
        place.write_text("third")
        raise RuntimeError("on the way")
    assert target.read_text() == "first"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]
    with pytest.raises(InputError, match="is a folder"), replaced_file(target.parent):
        pass
    with pytest.raises(InputError, match="can't be written"), replaced_file(target / "below"):
        pass
