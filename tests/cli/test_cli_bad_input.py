import socket

import pytest
import torch
from cli_helpers import assert_one_error, run_process, snapshot

from snnconvert.cli import convert_command

BAD = {
    "unknown model": (["resnet18q"], ["resnet18q", "did you mean resnet18"]),
    "misspelt digits": (["digitz"], ["did you mean digits"]),
    "no model like it": (["!!"], ["there is no model '!!'"]),
    "unknown tag": (["resnet18.nope"], ["nope", "a1_in1k"]),
    "bits too small": (["digits", "--bits", "0"], ["bits", "1 to 8", "0"]),
    "bits too large": (["digits", "--bits", "9", "--T", "1"], ["bits", "1 to 8", "9"]),
    "T too small": (["digits", "--T", "0"], ["T ", "1 to 8", "0"]),
    "T too large": (["digits", "--T", "9", "--bits", "1"], ["T ", "1 to 8", "9"]),
    "negative T": (["digits", "--T", "-4"], ["T ", "1 to 8", "-4"]),
    "word too long": (["digits", "--bits", "4", "--T", "4"], ["4 x 4 = 16", "8"]),
    "no weight bit": (["digits", "--weight-bits", "0"], ["weight_bits", "1 to 8", "0"]),
    "nine weight bits": (["digits", "--weight-bits", "9"], ["weight_bits", "1 to 8", "9"]),
    "no channel in a group": (["digits", "--weight-group", "0"], ["weight_group", "1 to", "0"]),
    "first and last weight bits": (["digits", "--first-last-weight-bits", "0"], ["first_last_weight_bits", "1 to 8"]),
    "input bits": (["digits", "--input-bits", "9"], ["input_bits", "1 to 8"]),
    "percentile": (["digits", "--percentile", "50"], ["percentile", "50"]),
    "percentile nan": (["digits", "--percentile", "nan"], ["percentile", "nan"]),
    "negative seed": (["digits", "--seed", "-1"], ["seed", "-1"]),
    "huge seed": (["digits", "--random-weights", "--seed", str(10**30)], ["seed"]),
    "huge seed of timm": (["test_resnet", "--random-weights", "--seed", str(10**30)], ["seed"]),
    "batch size": (["digits", "--batch-size", "0"], ["--batch-size", "0"]),
    "negative batch size": (["digits", "-b", "-2"], ["--batch-size", "-2"]),
    "workers": (["digits", "-j", "-1"], ["--workers", "-1"]),
    "no threads": (["digits", "--threads", "0"], ["--threads", "0"]),
    "no calibration images": (["digits", "--calib-images", "0"], ["--calib-images", "0"]),
    "no evaluation images": (["digits", "--eval-images", "0"], ["--eval-images", "0"]),
    "override matches nothing": (["digits", "--override", "nope:bits=1"], ["nope", "matches no"]),
    "keep-analog matches nothing": (["digits", "--keep-analog", "nope"], ["nope", "matches no"]),
    "malformed override": (["digits", "--override", "fc"], ["--override 'fc'", "PATTERN:"]),
    "bad expression": (["digits", "--override", "(:bits=1"], ["regular expression"]),
    "bad analog expression": (["digits", "--keep-analog", "["], ["regular expression"]),
    "override too long": (["digits", "--override", "fc:bits=4"], ["fc", "4 x 4 = 16"]),
    "override weight bits": (["digits", "--override", "fc:weight_bits=0"], ["weight_bits", "1 to 8"]),
    "two sources of weights": (["digits", "--checkpoint", "w.pth", "--random-weights"], ["exclude each other"]),
    "classes of digits": (["digits", "--num-classes", "5"], ["num_classes", "10 classes"]),
    "no classes": (["test_resnet", "--random-weights", "--num-classes", "0"], ["num_classes"]),
    "size of digits": (["digits", "--image-size", "9"], ["image_size", "8 x 8"]),
    "no size": (["test_resnet", "--random-weights", "--image-size", "0"], ["image_size"]),
    "unknown device": (["digits", "--device", "toaster"], ["--device toaster"]),
    "meta device": (["digits", "--device", "meta"], ["--device meta"]),
    "too many threads": (["digits", "--threads", str(10**6)], ["--threads"]),
    "absent backend": (["digits", "--device", "vulkan"], ["--device vulkan"]),
}
USAGE = {
    "no model": [],
    "unknown option": ["digits", "--nope"],
    "bits no number": ["digits", "--bits", "two"],
    "fractional T": ["digits", "--T", "2.5"],
    "unknown threshold": ["digits", "--threshold", "median"],
    "missing value": ["digits", "--override"],
    "two models": ["digits", "resnet18"],
}


@pytest.fixture
def _no_threads_are_started(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.mark.usefixtures("_no_threads_are_started")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(cli, folder, case):
    arguments, words = BAD[case]
    outcome = cli(*arguments)
    assert_one_error(outcome, *words)
    assert outcome.out == ""
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("case", USAGE)
def test_misuse_of_the_command_line_is_one_line_too(cli, folder, case):
    outcome = cli(*USAGE[case])
    assert_one_error(outcome)
    assert outcome.out == ""
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_that_is_not_there(cli, folder):
    assert_one_error(cli("digits", "--device", "cuda"), "--device cuda")
    assert list(folder.iterdir()) == []


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("a network was loaded before the output folder was checked")

    monkeypatch.setattr(convert_command, "load_model", refuse)


@pytest.mark.usefixtures("nothing_is_loaded")
class TestOutputIsCheckedFirst:
    def refused(self, cli, folder, out, *words):
        before = snapshot(folder)
        assert_one_error(cli("digits", "-o", out), *words)
        assert snapshot(folder) == before

    def test_folder_that_is_not_empty(self, cli, folder):
        (folder / "full").mkdir()
        (folder / "full" / "thesis.txt").write_text("years of work")
        self.refused(cli, folder, "full", "full", "not empty", "--force")

    def test_default_folder_that_is_not_empty(self, cli, folder):
        (folder / "snn-digits").mkdir()
        (folder / "snn-digits" / "thesis.txt").write_text("years of work")
        before = snapshot(folder)
        assert_one_error(cli("digits"), "snn-digits", "not empty", "--force")
        assert snapshot(folder) == before

    def test_file(self, cli, folder):
        (folder / "file").write_text("content")
        self.refused(cli, folder, "file", "file", "not a folder")

    def test_below_a_file(self, cli, folder):
        (folder / "file").write_text("content")
        self.refused(cli, folder, "file/out", "file")

    def test_dangling_link(self, cli, folder):
        (folder / "link").symlink_to("nowhere")
        self.refused(cli, folder, "link", "link")

    def test_working_directory(self, cli, folder):
        self.refused(cli, folder, ".", "choose another output folder")

    def test_name_too_long(self, cli, folder):
        self.refused(cli, folder, "x" * 300)


def test_forcing_over_a_file_keeps_the_file(cli, folder):
    (folder / "file").write_text("content")
    assert_one_error(cli("digits", "-o", "file", "--force"), "not a folder")
    assert (folder / "file").read_text() == "content"


@pytest.mark.slow
def test_hub_out_of_reach_names_the_ways_out(folder):
    outcome = run_process(
        ["-m", "snnconvert", "resnet18"], folder, HF_HUB_OFFLINE="1", HF_HOME=str(folder.parent / "hub")
    )
    assert_one_error(outcome, "resnet18", "--checkpoint", "--random-weights", "cache")
    assert list(folder.iterdir()) == []


def test_no_socket_is_opened_without_need(cli, monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert cli("digits", "--dry-run").code == 0
    assert cli("test_resnet", "--random-weights", "--dry-run").code == 0
