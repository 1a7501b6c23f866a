"""What a graph declares: its inputs and outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from onnx import GraphProto, TensorProto, ValueInfoProto

from snnconvert.errors import ConversionError, InputError
from snnconvert.models.onnx.dtypes import BITS, TORCH_TYPES, type_name
from snnconvert.models.onnx.limits import LARGEST_DIMENSION, MOST_ELEMENTS


@dataclass(frozen=True)
class OnnxInput:
    """One input of a network.

    Attributes:
        name: As the file gives it.
        shape: None for a dimension that may have any size; the batch first, as a rule.
        dtype: The tensor type the module takes: float32 for every floating type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype


def read_inputs(graph: GraphProto, file: str) -> tuple[OnnxInput, ...]:
    """The graph's inputs, without those that have a value in the file.

    Raises:
        InputError: if there is none, one is no tensor, or a shape or name can't be.
    """
    given = {item.name for item in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    inputs = tuple(_read_input(item, file) for item in graph.input if item.name not in given)
    names = [item.name for item in inputs]
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"{file}: two inputs have the same name, or one has none: export the model again")
    if not inputs:
        raise InputError(f"{file} has no inputs: every input has a fixed value in the file, so there is nothing to run")
    return inputs


def read_outputs(graph: GraphProto, file: str) -> tuple[str, ...]:
    """Names of the graph's outputs.

    Raises:
        InputError: if there is none, or a name appears twice.
    """
    names = tuple(item.name for item in graph.output)
    if not names or "" in names or len(set(names)) < len(names):
        raise InputError(f"{file} has no outputs, or an output is named twice or not at all: export the model again")
    return names


def refuse_texts(graph: GraphProto, file: str) -> None:
    """Checks that no output holds texts, such as the names of classes.

    Raises:
        ConversionError: naming the outputs that don't.
    """
    texts = [item.name for item in graph.output if item.type.tensor_type.elem_type == TensorProto.STRING]
    if texts:
        others = "".join(f"{item.name!r}, " for item in graph.output if item.name not in texts)
        way_out = f"leave it out: snnconvert.models.onnx.load_onnx(path, outputs=({others.strip()}))"
        raise ConversionError(
            f"{file}: the output '{texts[0]}' holds texts, which no tensor can: {way_out if others else 'cut it off'}"
        )


def _read_input(value: ValueInfoProto, file: str) -> OnnxInput:
    if value.type.WhichOneof("value") != "tensor_type":
        raise InputError(f"{file}: the input '{value.name}' is no tensor: sequences, maps and options can't be inputs")
    tensor = value.type.tensor_type
    if BITS.get(tensor.elem_type, 0) < 8:
        raise InputError(
            f"{file}: the input '{value.name}' is of type {type_name(tensor.elem_type)}, which is not supported"
        )
    shape = tuple(int(dim.dim_value) if dim.WhichOneof("value") == "dim_value" else None for dim in tensor.shape.dim)
    # Some exporters write -1 or 0 for "any".
    shape = tuple(None if index == 0 and size in (-1, 0) else size for index, size in enumerate(shape))
    for size in shape:
        if size is not None and not 0 <= size <= LARGEST_DIMENSION:
            raise InputError(
                f"{file}: the input '{value.name}' declares the shape {_text(shape)}: {size} can't be a size"
            )
    if math.prod(size for size in shape if size is not None) > MOST_ELEMENTS:
        raise InputError(f"{file}: the input '{value.name}' declares the shape {_text(shape)}, which is too large")
    return OnnxInput(value.name, shape, TORCH_TYPES[tensor.elem_type])


def _text(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
