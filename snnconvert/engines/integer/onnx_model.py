"""The lowered network as an ONNX model: exported by torch, checked by onnx."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import onnx
import torch
from torch import Tensor, fx
from torch.export import Dim

from snnconvert.convert.quiet import quiet_export
from snnconvert.convert.signature import Signature, TensorSpec
from snnconvert.convert.sizes import is_spatial
from snnconvert.engines.integer.twins import OPSET
from snnconvert.errors import EngineError, first_line

PRODUCER = "snnconvert"
_BATCH = 2
_LARGEST_MODEL = 2_000_000_000
_SIZES = {0: "batch", 2: "height", 3: "width"}


def input_names(signature: Signature) -> list[str]:
    """Names of the model's inputs: those of the call's tensors."""
    return [spec.name for spec in signature.tensors]


def to_onnx(
    graph: fx.GraphModule, signature: Signature, outputs: Sequence[str], *, batch: int | None
) -> onnx.ModelProto:
    """Exports a lowered network.

    Args:
        graph: see :func:`~snnconvert.engines.integer.lowering.lower`.
        signature: of the spiking network.
        outputs: names of its outputs.
        batch: a fixed batch size, or None for a dynamic one.

    Returns:
        The model, accepted by onnx's checker.

    Raises:
        EngineError: if an analog operator of the network has no ONNX form, naming it, or the checker refuses.
    """
    example = tuple(spec.trial(_BATCH if batch is None else batch) for spec in signature.tensors)
    shapes = tuple(_dynamic(spec, leaf, batch) for spec, leaf in zip(signature.tensors, example, strict=True))
    try:
        with quiet_export(), redirect_stdout(StringIO()), torch.no_grad():
            program = torch.export.export(graph, example, strict=False, dynamic_shapes=shapes)
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False,
                input_names=input_names(signature), output_names=list(outputs),
            )  # fmt: skip
        assert exported is not None
        model = exported.model_proto
        _without_traces(model)
        _name_sizes(model)
        _keep_reduced(model)
        onnx.checker.check_model(model, full_check=model.ByteSize() < _LARGEST_MODEL)
    except Exception as error:  # torch and onnx raise many types
        raise EngineError(f"the network can't be written as ONNX: {_innermost(error)}") from error
    return model


def _dynamic(spec: TensorSpec, leaf: Tensor, batch: int | None) -> dict[int, Any]:
    dims: dict[int, Any] = {0: Dim.DYNAMIC} if spec.batched and batch is None else {}
    sizes = dict.fromkeys((2, 3), Dim.AUTO) if is_spatial(leaf) and None in spec.shape else {}
    return {**dims, **sizes}


def _without_traces(model: onnx.ModelProto) -> None:
    """Drops what the exporter notes about source files: a model speaks of its network alone."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    model.producer_name = PRODUCER


def _name_sizes(model: onnx.ModelProto) -> None:
    """Calls the sizes that are free batch, height and width, instead of the exporter's symbols."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        for place, name in _SIZES.items():
            if place < len(sizes) and sizes[place].dim_param and name not in names.values():
                names.setdefault(sizes[place].dim_param, name)
    if not names:
        return
    known = re.compile("|".join(rf"\b{re.escape(symbol)}\b" for symbol in names))
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = known.sub(lambda found: names[found.group()], size.dim_param)


def _keep_reduced(model: onnx.ModelProto) -> None:
    """Reduces with the dimension kept, and drops it in a node of its own.

    OpenVINO (2026.4) applies channelwise operators behind other reductions along the wrong dimension.
    """
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        kept = next((item for item in node.attribute if item.name == "keepdims"), None)
        if not node.op_type.startswith("Reduce") or kept is None or kept.i or len(node.input) < 2:
            continue
        kept.i = 1
        result = node.output[0]
        node.output[0] = f"{result}_kept"
        nodes.append(
            onnx.helper.make_node("Squeeze", [node.output[0], node.input[1]], [result], f"{node.name}_squeeze")
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
