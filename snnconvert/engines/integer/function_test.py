"""A small network of functions: does this machine's runtime compute GELU, SiLU, … as closely as formulas assume?

Each function stands behind an 8-bit convolution, where runtimes work it into the kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snnconvert.engines.integer.formulas import FUNCTIONS, Function
from snnconvert.engines.integer.self_test import Session

_OPERATORS: dict[str, tuple[str, dict[str, str]]] = {
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "hardswish": ("HardSwish", {}),
    "mish": ("Mish", {}),
    "elu": ("Elu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
}
_CHANNELS, _WEIGHT, _OPSET = 16, 50, 20
_POSITIONS = 6000
_INNER, _OUTER = 2.0**-9, 20.0  # potentials of ±12, values of up to 240 steps


def computes_closely(load: Callable[[bytes], Session]) -> bool:
    """Whether a runtime's functions are off by less than half of what formulas allow them.

    Args:
        load: makes a session of a serialized model with one input of bytes.
    """
    positions = np.arange(-_POSITIONS, _POSITIONS)
    tens = np.rint(positions / _WEIGHT)
    inputs = np.stack([tens, positions - tens * _WEIGHT, 0 * tens]).astype(np.int8)[None, :, None, :]
    (found,) = load(_probe(len(positions))).run(None, {"bytes": inputs})
    potentials = torch.from_numpy(positions).double() * _INNER
    values = torch.from_numpy(np.array(found, np.float64)).view(len(FUNCTIONS), _CHANNELS, -1) / _OUTER
    pairs = zip(FUNCTIONS.values(), values, strict=True)
    return all(_is_close(function, potentials, value) for function, value in pairs)


def _is_close(function: Function, potentials: torch.Tensor, values: torch.Tensor) -> bool:
    wanted = function.exact(potentials)
    return bool(((values - wanted).abs() <= function.error(wanted) / 2).all())


def _probe(width: int) -> bytes:
    """Bytes (q, r, 0) → p = 50·q + r → b·f(a·rne(p)) of every function, as the operator that twins amount to.

    What the zeros meet differs from function to function, so that each has a convolution of its own.
    """
    constants = {
        "one": np.float32(1), "zero": np.int8(0), "scale": np.ones(_CHANNELS, np.float32),
        "no_offset": np.zeros(_CHANNELS, np.int8), "inner": np.float32(_INNER), "outer": np.float32(_OUTER),
    }  # fmt: skip
    nodes = [helper.make_node("DequantizeLinear", ["bytes", "one", "zero"], ["read"])]
    for index, name in enumerate(FUNCTIONS):
        weight = np.array([_WEIGHT, 1, index], np.int8)
        constants[f"{name}.weight"] = np.tile(weight[None, :, None, None], (_CHANNELS, 1, 1, 1))
        nodes += [
            helper.make_node("DequantizeLinear", [f"{name}.weight", "scale", "no_offset"], [f"{name}.weights"], axis=0),
            helper.make_node("Conv", ["read", f"{name}.weights"], [f"{name}.current"]),
            helper.make_node("Round", [f"{name}.current"], [f"{name}.position"]),
            helper.make_node("Mul", [f"{name}.position", "inner"], [f"{name}.potential"]),
            *_function(name),
            helper.make_node("Mul", [f"{name}.value", "outer"], [f"{name}.steps"]),
        ]
    nodes.append(helper.make_node("Concat", [f"{name}.steps" for name in FUNCTIONS], ["values"], axis=0))
    graph = helper.make_graph(
        nodes,
        "functions",
        [helper.make_tensor_value_info("bytes", TensorProto.INT8, [1, 3, 1, width])],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [len(FUNCTIONS), _CHANNELS, 1, width])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _function(name: str) -> list[NodeProto]:
    potential, value = f"{name}.potential", f"{name}.value"
    if name in _OPERATORS:
        operator, settings = _OPERATORS[name]
        return [helper.make_node(operator, [potential], [value], **settings)]
    gate = f"{name}.gate"
    return [helper.make_node("Sigmoid", [potential], [gate]), helper.make_node("Mul", [potential, gate], [value])]
