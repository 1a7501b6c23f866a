"""OpenVINO beside Python's own signal handlers."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip("openvino")

PROGRAM = """
import signal
import sys
from pathlib import Path
import onnx
from onnx import TensorProto, helper
from snnconvert.engines.integer.openvino_runtime import OpenVino
from snnconvert.engines.integer.runtime import RuntimeOptions

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
path = Path(sys.argv[1])
onnx.save(model, path)
received = []
signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
first, second = (OpenVino(path, RuntimeOptions(threads=1)) for _ in range(2))
del first
signal.raise_signal(signal.SIGUSR1)
del second
signal.raise_signal(signal.SIGUSR1)
assert len(received) == 2
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of POSIX")
def test_signals_arrive_when_engines_have_ended_in_any_order(tmp_path):
    """OpenVINO's cores, ended in the order of their beginning, leave a signal stack that isn't there any more."""
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "net.onnx")], check=True, timeout=120)
