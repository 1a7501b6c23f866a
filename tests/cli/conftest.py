import pytest
import torch
from cli_helpers import Outcome, run_process

from snnconvert.cli.main import main


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def cli(folder, capfd):
    """Runs the command line in this process, in an empty working directory."""

    def run(*arguments):
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """One real process of the README's first command: its outcome and its working directory."""
    place = tmp_path_factory.mktemp("digits")
    command = ["-m", "snnconvert", "digits", "--bits", "2", "--T", "4", "-o", "out/"]
    return run_process(command, place), place
