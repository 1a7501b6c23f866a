"""The self-test tells kernels that add up exactly from those that saturate."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from snnconvert.engines.integer import onnxruntime_runtime, openvino_runtime
from snnconvert.engines.integer.onnxruntime_runtime import OnnxRuntime
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.engines.integer.self_test import is_exact
from snnconvert.errors import EngineError


class Kernel:
    """The probe's convolution in numpy: products of bytes, added up in pairs that saturate in 16 bits, or not."""

    def __init__(self, model, *, saturates):
        graph = onnx.load_from_string(model).graph
        constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.weight = constants["weight"][:, :, 0, 0].astype(np.int64)
        self.scale, self.saturates = constants["scale"], saturates

    def run(self, outputs, feeds):
        assert outputs is None
        (words,) = feeds.values()
        products = np.einsum("oc,nchw->nochw", self.weight, words.astype(np.int64))
        pairs = products[:, :, 0::2] + products[:, :, 1::2]
        if self.saturates:
            pairs = pairs.clip(-(1 << 15), (1 << 15) - 1)
        current = pairs.sum(2) * self.scale[:, None, None]
        return [np.clip(np.rint(current), 0, 255).astype(np.float32)]


def test_exact_kernels_pass():
    assert is_exact(lambda model: Kernel(model, saturates=False))


def test_saturating_kernels_do_not():
    assert not is_exact(lambda model: Kernel(model, saturates=True))


def test_rounding_up_does_not():
    class Upward(Kernel):
        def run(self, outputs, feeds):
            return [np.minimum(super().run(outputs, feeds)[0] + 1, 255)]

    assert not is_exact(lambda model: Upward(model, saturates=False))


def test_onnxruntime_here_passes_at_one_of_its_settings():
    def load(precise):
        options = onnxruntime.SessionOptions()
        if precise:
            options.add_session_config_entry("session.x64quantprecision", "1")
        return lambda model: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    assert is_exact(load(False)) or is_exact(load(True))


@pytest.fixture
def relu_file(tmp_path):
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9),
        tmp_path / "relu.onnx",
    )
    return tmp_path / "relu.onnx"


def test_where_fast_kernels_saturate_onnxruntime_runs_its_exact_ones(monkeypatch, relu_file):
    answers = [False, True]
    monkeypatch.setattr(onnxruntime_runtime, "is_exact", lambda load: answers.pop(0))
    assert OnnxRuntime(relu_file, RuntimeOptions()).notes == (
        "this CPU's fast 8-bit products saturate: onnxruntime runs its slower exact ones",
    )


def test_where_all_saturate_the_network_is_refused(monkeypatch, relu_file):
    monkeypatch.setattr(onnxruntime_runtime, "is_exact", lambda load: False)
    with pytest.raises(EngineError, match=r"saturate on this CPU.*at most 7"):
        OnnxRuntime(relu_file, RuntimeOptions())
    pytest.importorskip("openvino")
    monkeypatch.setattr(openvino_runtime, "is_exact", lambda load: False)
    with pytest.raises(EngineError, match=r"aren't exact on this CPU: choose engine onnxruntime or torch"):
        openvino_runtime.OpenVino(relu_file, RuntimeOptions())


def test_where_fast_kernels_saturate_openvino_runs_in_float32(monkeypatch, relu_file):
    pytest.importorskip("openvino")
    answers = [False, True]
    monkeypatch.setattr(openvino_runtime, "is_exact", lambda load: answers.pop(0))
    assert openvino_runtime.OpenVino(relu_file, RuntimeOptions()).notes == (
        "this CPU's 8-bit products saturate: OpenVINO runs in float32, exact but slower",
    )


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(EngineError, match="onnxruntime can't load the network") as refused:
        OnnxRuntime(path, RuntimeOptions())
    assert "\n" not in str(refused.value)
