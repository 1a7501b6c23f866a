import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_helpers import accuracy, converted_digits

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.slow
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def train(folder, processes, epochs=2, resume="", kill_at=-1):
    folder.mkdir(exist_ok=True)
    launcher = TWO if processes == 2 else []
    command = [*launcher, str(HERE / "training_worker.py"), str(folder), str(epochs), resume, str(kill_at)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
    }
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)


def network(folder, rank=0):
    snn = converted_digits()
    snn.network.load_state_dict(torch.load(folder / f"state{rank}.pt", weights_only=True))
    return snn


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    done = train(folder, 1)
    assert done.returncode == 0, done.stderr
    return folder


def losses(folder):
    lines = (folder / "log.csv").read_text().splitlines()
    column = lines[0].split(",").index("loss")
    return [float(line.split(",")[column]) for line in lines[1:]]


def test_two_processes_learn_what_one_does(alone, tmp_path):
    done = train(tmp_path / "two", 2)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two")[:3] == pytest.approx(losses(alone)[:3], rel=1e-5)
    first, second = (network(tmp_path / "two", rank) for rank in range(2))
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    assert accuracy(first) > accuracy(converted_digits()) + 0.05


@pytest.mark.parametrize("afterwards", [1, 2])
def test_a_killed_run_goes_on_with_as_many_processes_or_others(afterwards, alone, tmp_path):
    folder = tmp_path / "run"
    killed = train(folder, 2, kill_at=4)
    assert killed.returncode != 0
    assert not (folder / "state0.pt").exists()
    assert len(losses(folder)) <= 5
    done = train(folder, afterwards, resume="resume")
    assert done.returncode == 0, done.stderr
    assert losses(folder) == pytest.approx(losses(alone), rel=0.1)
    assert accuracy(network(folder)) > accuracy(converted_digits()) + 0.05
