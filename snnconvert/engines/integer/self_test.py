"""A small network of extreme integers: do this machine's 8-bit kernels add up without saturation?

On CPUs without instructions that accumulate products of bytes in 32 bits, pairs of products are added in 16 bits
and saturate. Largest bytes times largest weights show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_CHANNELS, _OUTPUTS, _SIZE = 64, 32, 6
_SCALE = 2.0**-14


class Session(Protocol):
    """A loaded model, as onnxruntime has it."""

    def run(self, outputs: None, feeds: dict[str, Any]) -> Sequence[Any]:
        """Its outputs."""


def is_exact(load: Callable[[bytes], Session]) -> bool:
    """Whether a runtime computes a convolution of extreme bytes and weights as int64 arithmetic does.

    Args:
        load: makes a session of a serialized model with one float input.
    """
    generator = np.random.default_rng(0)
    words = generator.choice([0, 254, 255], size=(1, _CHANNELS, _SIZE, _SIZE)).astype(np.float32)
    weight = generator.choice([-127, 126, 127], size=(_OUTPUTS, _CHANNELS, 1, 1)).astype(np.int8)
    sums = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0].astype(np.int64), words.astype(np.int64))
    expected = np.clip(np.rint(sums * _SCALE), 0, 255)
    (found,) = load(_probe(weight)).run(None, {"words": words})
    return bool((np.asarray(found) == expected).all())


def _probe(weight: np.ndarray[Any, Any]) -> bytes:
    """Bytes → convolution → bytes, as :mod:`twins` write it."""
    constants = {
        "one": np.float32(1), "zero": np.uint8(0), "weight": weight,
        "scale": np.full(len(weight), _SCALE, np.float32), "no_offset": np.zeros(len(weight), np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["words", "one", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "one", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "no_offset"], ["weights"], axis=0),
        helper.make_node("Conv", ["read", "weights"], ["current"]),
        helper.make_node("QuantizeLinear", ["current", "one", "zero"], ["fired"]),
        helper.make_node("DequantizeLinear", ["fired", "one", "zero"], ["result"]),
    ]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("words", TensorProto.FLOAT, [1, _CHANNELS, _SIZE, _SIZE])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, len(weight), _SIZE, _SIZE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
