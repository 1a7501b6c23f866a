import pytest
from cli_helpers import ARTIFACT_FILES, run_process

COMMAND = ["-m", "snnconvert", "digits", "--calib-images", "33", "--eval-images", "50", "-b", "11", "-o", "out"]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder and the outcome of one process, and of two."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    commands = [COMMAND, [*TWO, *COMMAND]]
    variables = {"OMP_NUM_THREADS": "1"}
    return [(folder, run_process(args, folder, **variables)) for args, folder in zip(commands, folders, strict=True)]


@pytest.mark.slow
def test_two_processes_print_and_write_what_one_does(runs):
    (one, alone), (two, together) = runs
    assert (alone.code, together.code) == (0, 0), together.err
    assert together.out == alone.out
    assert together.last_line["calibration_images"] == 33
    assert sorted(path.name for path in (two / "out").iterdir()) == ARTIFACT_FILES
    for name in ARTIFACT_FILES:
        assert (two / "out" / name).read_bytes() == (one / "out" / name).read_bytes(), name


def test_a_dry_run_prints_one_plan(folder):
    outcome = run_process([*TWO, "-m", "snnconvert", "digits", "--dry-run", "-q"], folder, OMP_NUM_THREADS="1")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1
