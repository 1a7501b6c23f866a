"""Integer models in onnxruntime, on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from snnconvert.engines.integer.runtime import FloatOperation, RuntimeOptions
from snnconvert.engines.integer.self_test import is_exact
from snnconvert.errors import EngineError, first_line

_PRECISE = "session.x64quantprecision"
_QUIET = 3
_MOVES = frozenset(
    {
        "Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Expand", "Flatten", "Gather", "Identity",
        "NhwcMaxPool", "QuantizeLinear", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
        "QLinearConv", "QLinearAdd", "QLinearConcat", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MaxPool",
        "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearMul", "QLinearSigmoid", "ReorderInput",
        "ReorderOutput", "MatMulInteger",
    }
)  # fmt: skip
_BYTES = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.INT64, onnx.TensorProto.INT32)


class OnnxRuntime:
    """A session of onnxruntime."""

    def __init__(self, model: Path, options: RuntimeOptions) -> None:
        """Loads a model.

        Args:
            model: an ONNX file, which is read again by :meth:`float_operations`.
            options: threads, batch and memory.

        Raises:
            EngineError: if onnxruntime can't load it, or this CPU's kernels aren't exact.
        """
        self._model, self._options = model, options
        self.notes: tuple[str, ...] = ()
        precise = False
        if not is_exact(lambda probe: _session(probe, options, precise=False)):
            precise = True
            if not is_exact(lambda probe: _session(probe, options, precise=True)):
                raise EngineError(
                    "onnxruntime's 8-bit kernels saturate on this CPU: choose engine torch, or bits x T of at most 7"
                )
            self.notes = ("this CPU's fast 8-bit products saturate: onnxruntime runs its slower exact ones",)
        self._precise = precise
        self._session = _session(model, options, precise=precise)
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._run_options = onnxruntime.RunOptions()
        if options.lean:
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """The outputs."""
        arrays = [leaf.detach().cpu().contiguous().numpy() for leaf in leaves]
        feeds = dict(zip(self._inputs, arrays, strict=True))
        found: list[np.ndarray[Any, Any]] = self._session.run(None, feeds, self._run_options)
        return [torch.from_numpy(item) for item in found]

    def float_operations(self) -> tuple[FloatOperation, ...]:
        """The nodes of the optimized graph that compute in floating point.

        Raises:
            EngineError: if the model's file is gone.
        """
        if not self._model.exists():
            raise EngineError(f"{self._model}, which this engine was loaded from, is gone: compile the network again")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            _session(self._model, self._options, precise=self._precise, optimized=path)
            graph = onnx.load(str(path), load_external_data=False).graph
        shapes = {item.name for item in graph.value_info if item.type.tensor_type.elem_type in _BYTES}
        return tuple(
            FloatOperation(node.op_type, node.name.split("_token_")[0])
            for node in graph.node
            if node.op_type not in _MOVES and not all(name in shapes for name in node.output)
        )


def _session(
    model: bytes | Path, options: RuntimeOptions, *, precise: bool, optimized: Path | None = None
) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.inter_op_num_threads = 1
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    settings.enable_mem_pattern = False  # a second block of all there is room for in the first
    settings.enable_mem_reuse = False  # would hold buffers of each size until the last layer that has one
    if precise:
        settings.add_session_config_entry(_PRECISE, "1")
    if optimized is not None:
        settings.optimized_model_filepath = str(optimized)
    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # pybind11 maps its own exceptions to plain ones
        raise EngineError(f"onnxruntime can't load the network: {first_line(error)}") from error
