import errno
import shutil

import pytest
from cli_helpers import ARTIFACT_FILES, assert_one_error, snapshot
from slow_cases import mostly_slow

import snnconvert
from snnconvert import artifact_folder
from snnconvert.cli import convert_command
from snnconvert.version import __version__

FEW = ["digits", "--eval-images", "20", "--calib-images", "16"]


@pytest.fixture
def earlier(digits_run, folder):
    """A saved network in out/, and what the working directory then holds."""
    shutil.copytree(digits_run[1] / "out", folder / "out")
    (folder / "out" / "mine.txt").write_text("a note of the user's")
    return snapshot(folder)


def test_existing_network_is_kept_without_force(cli, folder, earlier):
    assert_one_error(cli(*FEW, "-o", "out", "--bits", "1"), "out", "not empty", "--force")
    assert snapshot(folder) == earlier


def test_force_replaces_the_folder_as_a_whole(cli, folder, earlier):
    assert cli(*FEW, "-o", "out", "--bits", "1", "--force").code == 0
    assert [path.name for path in folder.iterdir()] == ["out"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == ARTIFACT_FILES
    assert snnconvert.load(folder / "out").config.bits == 1


def test_empty_folder_is_filled(cli, folder):
    (folder / "out").mkdir()
    assert cli(*FEW, "-o", "out").code == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == ARTIFACT_FILES


def test_folders_above_are_made_and_force_needs_no_old_folder(cli, folder):
    assert cli(*FEW, "-o", "a/b/c", "--force").code == 0
    assert sorted(path.name for path in (folder / "a" / "b" / "c").iterdir()) == ARTIFACT_FILES


def fail_with(error):
    def fail(*arguments, **settings):
        raise error

    return fail


@pytest.mark.parametrize(
    ("module", "name", "force"),
    mostly_slow(
        [
            (convert_command, "calibrate", True),
            (convert_command, "compare", True),
            (artifact_folder, "graph_to_json", True),
            (artifact_folder, "save_file", True),
            (artifact_folder, "save_file", False),
        ],
        keep=[(convert_command, "calibrate", True), (artifact_folder, "save_file", False)],
    ),
)
def test_crash_midway_leaves_everything_as_it_was(cli, folder, earlier, monkeypatch, module, name, force):
    monkeypatch.setattr(module, name, fail_with(RuntimeError("boom")))
    with pytest.raises(RuntimeError, match="boom"):
        cli(*FEW, "--bits", "1", *(["-o", "out", "--force"] if force else ["-o", "new"]))
    assert snapshot(folder) == earlier


def test_full_disk_is_one_line_and_leaves_everything_as_it_was(cli, folder, earlier, monkeypatch):
    monkeypatch.setattr(artifact_folder, "save_file", fail_with(OSError(errno.ENOSPC, "No space left on device")))
    assert_one_error(cli(*FEW, "--bits", "1", "-o", "out", "--force"), "out", "No space left")
    assert snapshot(folder) == earlier


def test_interruption_leaves_everything_as_it_was(cli, folder, earlier, monkeypatch):
    monkeypatch.setattr(convert_command, "compare", fail_with(KeyboardInterrupt()))
    outcome = cli(*FEW, "--bits", "1", "-o", "out", "--force")
    assert outcome.code == 130
    assert outcome.err == "snnconvert: interrupted, nothing was written\n"
    assert snapshot(folder) == earlier


def test_quiet_prints_the_json_line_only_and_changes_no_figure(cli):
    quiet = cli(*FEW, "-o", "a", "--quiet")
    assert quiet.code == 0
    assert len(quiet.out.splitlines()) == 1
    assert quiet.err == ""
    assert quiet.last_line == cli(*FEW, "-o", "b").last_line


def test_quiet_keeps_errors(cli):
    assert_one_error(cli("digits", "--bits", "9", "-q"), "bits")


def test_version(cli):
    outcome = cli("--version")
    assert outcome.code == 0
    assert outcome.out == f"snnconvert {__version__}\n"


def test_help_names_every_option_with_an_explanation(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    outcome = cli("--help")
    assert outcome.code == 0
    _, listing = outcome.out.split("\noptions:\n", 1)
    for option in (
        "--bits", "--T", "--weight-bits", "--first-last-weight-bits", "--input-bits", "--threshold", "--percentile",
        "--no-bias-correction", "--override", "--keep-analog", "--checkpoint", "--random-weights", "--num-classes",
        "--image-size", "--data", "--calib-images", "--eval-images", "--batch-size", "--workers", "--out", "--force",
        "--dry-run", "--device", "--threads", "--seed", "--quiet", "--attention-code",
    ):  # fmt: skip
        assert option in listing
    assert "None" not in listing


def test_threads_are_set(cli):
    assert cli("digits", "--dry-run", "--threads", "1").code == 0
    assert convert_command.torch.get_num_threads() == 1
