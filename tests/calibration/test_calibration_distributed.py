import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from calibration_worker import contents, convert_all

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def alone():
    """What one process gets from all data, on one thread like those of the group."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: contents(snn) for name, snn in convert_all(lambda batches: batches).items()}
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two processes got."""
    folder = tmp_path_factory.mktemp("processes")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(TESTS.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *command, str(TESTS / "calibration_worker.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", ["digits", "masked", "without data"])
@pytest.mark.parametrize("shards", ["alternating", "one only"])
@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_ends_with_the_network_of_one(alone, together, rank, shards, name):
    found, expected = together[rank][shards][name], alone[name]
    assert found["layers"] == expected["layers"]
    assert found["count"] == expected["count"]
    assert found["state"].keys() == expected["state"].keys()
    for key, tensor in expected["state"].items():
        assert torch.equal(found["state"][key], tensor), key


def test_counts_are_those_of_all(together):
    assert together[1]["alternating"]["digits"]["count"] == 160
    assert together[0]["one only"]["masked"]["count"] == 80
    assert together[0]["alternating"]["without data"]["count"] == 0


def test_all_processes_refuse_what_one_would(together):
    for found in together:
        assert "mask has no batch dimension" in found["unequal"]
        assert "the calibration loader is empty" in found["empty"]


def test_one_damaged_part_stops_all_processes(together):
    for found in together:
        assert "batch 0 holds NaN" in found["first batch"]
        assert "batch 7 holds NaN" in found["later batch"]
