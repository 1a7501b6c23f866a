"""What the tests of ONNX files share: small graphs, files of them, and what onnxruntime makes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

from snnconvert.models.onnx import load_onnx

Shape = Sequence[int | str | None]


def value(name: str, shape: Shape | None, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    """A declared input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[NodeProto],
    constants: dict[str, Any] | None = None,
    *,
    shape: Shape = (1, 3, 8, 8),
    inputs: Sequence[ValueInfoProto] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    **more: Any,
) -> ModelProto:
    """A model from x to y; constants are NumPy arrays or TensorProtos by name."""
    initializers = [
        item if isinstance(item, TensorProto) else numpy_helper.from_array(np.asarray(item), name)
        for name, item in (constants or {}).items()
    ]
    graph = helper.make_graph(
        list(nodes), "g", list(inputs or [value("x", shape)]), [value(name, None) for name in outputs], initializers
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10, **more)


def write(model: ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def outputs_of(path: Path, *inputs: Tensor) -> list[Tensor]:
    """What the imported network gives."""
    with torch.no_grad():
        result = load_onnx(path).module(*inputs)
    return [result] if isinstance(result, Tensor) else list(result.values())


def reference_outputs(path: Path, *inputs: Tensor) -> list[Tensor]:
    """What onnxruntime gives."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {item.name: x.numpy() for item, x in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(np.asarray(output)) for output in session.run(None, feeds)]


def largest_difference(actual: Tensor, expected: Tensor) -> float:
    """max |a − b| / max |b|."""
    assert actual.shape == expected.shape
    scale = expected.double().abs().max().clamp(min=1e-12)
    return float((actual.double() - expected.double()).abs().max() / scale)
