"""Capture: an nn.Module becomes one flat ATen-level torch.fx graph with a dynamic batch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import UnsupportedOperatorException
from torch.export import Dim

from snnconvert.convert.capture_checks import Caller, Leaves, check_batches, check_result, check_sizes, copy_of
from snnconvert.convert.decompose import decompositions
from snnconvert.convert.effects import without_effects
from snnconvert.convert.fake_quantizers import WrittenOutQuantizers
from snnconvert.convert.graph_tools import tensor_at
from snnconvert.convert.passes.lower_views import lower_views
from snnconvert.convert.quiet import quiet_export
from snnconvert.convert.signature import FLOATING, Signature, TensorSpec, canonical_call, parameters_of
from snnconvert.convert.sizes import at_batch, doubled, is_spatial
from snnconvert.convert.structure import flatten, flatten_inputs, unflatten
from snnconvert.convert.user_line import user_line
from snnconvert.errors import ConversionError, InputError, first_line
from snnconvert.inputs import Inputs

CHECK_BATCH = 3
Sizes = Literal["fixed", "dynamic", "where possible"]
_FIXED_SIZE = re.compile(r"L\['leaves'\]\[(\d+)\]\.size\(\)\[(\d+)\] .*constant \((\d+)\)")
_TAKEN = frozenset(dir(fx.GraphModule({}, fx.Graph())))
_MODEL = "model."  # how the model's own names begin inside its Caller


@dataclass(frozen=True)
class Captured:
    """A captured network.

    Attributes:
        graph: its graph: one placeholder a tensor, and one tensor or a tuple of tensors out.
        signature: how it is called and what it returns.
        note: what could not be captured as wished, and why; empty if nothing.
    """

    graph: fx.GraphModule
    signature: Signature
    note: str = ""


def capture(model: nn.Module, example: Tensor | Inputs) -> fx.GraphModule:
    """The graph alone; see :func:`capture_call`."""
    return capture_call(model, example).graph


def capture_call(model: nn.Module, example: Tensor | Inputs, *, sizes: Sizes = "fixed") -> Captured:
    """Captures the inference graph of a model.

    A copy of the model is exported in evaluation mode and float32 at a dynamic batch size, in-place
    operations become functional ones, and the result is checked against the model at other batch sizes.
    The model itself is left untouched. Every node keeps its layer's name in ``meta["nn_module_stack"]``;
    parameters are ``get_attr`` nodes with their own names.

    The batch is the first dimension of the first floating tensor, and of every other tensor whose first
    dimension is as large; tensors with another first dimension are inputs without a batch. What isn't a
    tensor is a constant.

    Args:
        model: the network.
        example: one or more input samples, [N, ...], on the model's device, or the arguments of one call.
        sizes: of the heights and widths of inputs [N, C, H, W]: "fixed" to the example's, "dynamic", or
            "where possible", which falls back to the example's and says why.

    Raises:
        ConversionError: if the model can't be exported (naming the line of the model), returns anything but
            tensors in containers, holds NaN or Inf, doesn't support other batch sizes, or other image
            sizes where these are to be dynamic, or its graph disagrees with it.
    """
    inputs = example if isinstance(example, Inputs) else Inputs(example)
    specs, batch, caller = _prepared(model, inputs)
    expected, result = caller.returned(batch)
    check_result(type(model).__name__, CHECK_BATCH, expected, batch)
    parameters = parameters_of(model)
    note = ""
    images = any(is_spatial(leaf) for leaf in batch)
    if sizes == "dynamic" and not images:
        raise ConversionError(f"{type(model).__name__} takes no images [N, C, H, W]: convert it without dynamic_sizes")
    if sizes != "fixed" and images:
        graph, found, note = _with_dynamic_sizes(caller, specs, batch)
        if note and sizes == "dynamic":
            raise ConversionError(
                f"{type(model).__name__} can't be captured at any image size: {note}; "
                "convert it for one size, without dynamic_sizes"
            )
        specs = found
    if sizes == "fixed" or note or not images:
        graph, specs = _captured(caller, specs, batch, spatial=False)
    check_batches(graph, caller, specs, batch, (expected, result))
    _, call = flatten(canonical_call(parameters, inputs.args, inputs.kwargs), "the input")
    order = _canonical_order(parameters, inputs)
    return Captured(_reordered(graph, order), Signature(parameters, call, tuple(specs[i] for i in order), result), note)


def _prepared(model: nn.Module, inputs: Inputs) -> tuple[list[TensorSpec], Leaves, Caller]:
    leaves, call = flatten_inputs(inputs, "the input")
    if not leaves:
        raise InputError("the example holds no tensor")
    leaves = tuple(leaf.float() if leaf.is_floating_point() else leaf for leaf in leaves)
    leading = next((leaf for leaf in leaves if leaf.is_floating_point() and leaf.dim() > 0), leaves[0])
    if leading.dim() < 1 or leading.shape[0] == 0:
        raise ConversionError(f"the example input has shape {tuple(leading.shape)}: it needs at least one sample")
    names = _names(model, call.paths())
    specs = [_spec(name, leaf, leading.shape[0]) for name, leaf in zip(names, leaves, strict=True)]
    return specs, at_batch(leaves, specs, CHECK_BATCH), Caller(copy_of(model), call, unflatten)


def _names(model: nn.Module, paths: Iterator[tuple[str | int, ...]]) -> list[str]:
    """Names of the tensors of a call: "pixel_values", or "features.0" of a list."""
    parameters = parameters_of(model)
    names: list[str] = []
    for which, first, *rest in paths:
        known = which == 0 and isinstance(first, int) and first < len(parameters)
        head = parameters[int(first)] if known else f"input_{first}" if which == 0 else str(first)
        names.append(".".join([head, *map(str, rest)]))
    return names


def _spec(name: str, leaf: Tensor, batch: int) -> TensorSpec:
    batched = leaf.dim() > 0 and leaf.shape[0] == batch
    dtype = FLOATING if leaf.is_floating_point() else str(leaf.dtype).removeprefix("torch.")
    return TensorSpec(name, tuple(leaf.shape[1:] if batched else leaf.shape), dtype, batched)


def _with_dynamic_sizes(
    caller: Caller, specs: Sequence[TensorSpec], batch: Leaves
) -> tuple[fx.GraphModule, list[TensorSpec], str]:
    """The graph at any image size, and why there is none."""
    traced = _without_ones(caller, batch)
    try:
        graph, found = _captured(caller, specs, traced, spatial=True)
    except ConversionError as error:
        return fx.GraphModule({}, fx.Graph()), list(specs), str(error)
    if all(None not in spec.shape for spec in found):
        return graph, found, "the model itself fixes the size of its input"
    return graph, found, check_sizes(graph, caller, found, traced) or ""


def _without_ones(caller: Caller, batch: Leaves) -> Leaves:
    """The example with images twice as large if some height or width is 1, which torch would take as fixed."""
    if all(min(leaf.shape[2:]) > 1 for leaf in batch if is_spatial(leaf)):
        return batch
    try:
        caller.returned(doubled(batch))
    except ConversionError:
        return batch
    return doubled(batch)


def _captured(
    caller: Caller, specs: Sequence[TensorSpec], batch: Leaves, *, spatial: bool
) -> tuple[fx.GraphModule, list[TensorSpec]]:
    exported = _export(caller, specs, at_batch(batch, specs, 2), spatial=spatial)
    graph = without_effects(lower_views(exported), type(caller.model).__name__)
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    found = [_resized(*each) for each in zip(specs, placeholders, batch, strict=True)]
    return graph, found


def _resized(spec: TensorSpec, placeholder: fx.Node, leaf: Tensor) -> TensorSpec:
    """The spec with None for every size that is symbolic in the graph."""
    value = placeholder.meta["val"]
    sizes = value.shape[1:] if spec.batched else value.shape
    shape = tuple(size if isinstance(size, int) else None for size in sizes)
    return TensorSpec(spec.name, shape, spec.dtype, spec.batched, tuple(leaf.shape[1:] if spec.batched else leaf.shape))


def _canonical_order(parameters: Sequence[str], inputs: Inputs) -> list[int]:
    """Position of each tensor of the canonical call among the tensors of the call as it was given."""
    leaves, _ = flatten_inputs(inputs, "the input")
    canonical, _ = flatten(canonical_call(parameters, inputs.args, inputs.kwargs), "the input")
    left = list(enumerate(leaves))
    order: list[int] = []
    for leaf in canonical:
        position = next(place for place, (_, other) in enumerate(left) if other is leaf)
        order.append(left.pop(position)[0])
    return order


def _reordered(graph_module: fx.GraphModule, order: Sequence[int]) -> fx.GraphModule:
    """The graph with its placeholders in another order."""
    if list(order) == sorted(order):
        return graph_module
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    anchor = next(node for node in graph_module.graph.nodes if node.op != "placeholder")
    for index in order:
        anchor.prepend(placeholders[index])
    graph_module.recompile()
    return graph_module


def _export(caller: Caller, specs: Sequence[TensorSpec], example: Leaves, *, spatial: bool) -> fx.GraphModule:
    shapes = tuple(_dynamic(spec, leaf, spatial=spatial) for spec, leaf in zip(specs, example, strict=True))
    try:
        with quiet_export(), torch.no_grad(), WrittenOutQuantizers():
            program = torch.export.export(caller, example, strict=False, dynamic_shapes=(shapes,))
            exported = program.run_decompositions(decompositions()).module(check_guards=False)
    except Exception as error:  # torch.export raises many types for the user's own code
        name, reason = type(caller.model).__name__, _reason(error, specs)
        raise ConversionError(f"{name} can't be captured by torch.export{user_line(error)}: {reason}") from error
    return _as_plain_graph(exported, _identifiers(specs))


def _reason(error: Exception, specs: Sequence[TensorSpec]) -> str:
    """What torch.export says on one line; a size that the model fixes is called by its input's name."""
    fixed = _FIXED_SIZE.search(str(error))
    if isinstance(error, UnsupportedOperatorException):
        return f"torch can't tell the shape of the result of {first_line(error)}; write it with other operators"
    if fixed is None:
        return first_line(error)
    leaf, dim, size = fixed.groups()
    what = "batch size" if dim == "0" and specs[int(leaf)].batched else f"size of dimension {dim}"
    return f"it treats the {what} of {specs[int(leaf)].name} as the constant {size}, as a loop over it or len() does"


def _dynamic(spec: TensorSpec, leaf: Tensor, *, spatial: bool) -> dict[int, Any]:
    dims: dict[int, Any] = {0: Dim.DYNAMIC} if spec.batched else {}
    return {**dims, 2: Dim.AUTO, 3: Dim.AUTO} if spatial and is_spatial(leaf) else dims


def _identifiers(specs: Sequence[TensorSpec]) -> list[str]:
    """Names of the placeholders: those of the inputs, as far as they are Python names."""
    names: list[str] = []
    for spec in specs:
        name = re.sub(r"\W+", "_", spec.name, flags=re.ASCII).strip("_") or "input"
        name = name if name.isidentifier() else f"input_{name}"
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _as_plain_graph(exported: fx.GraphModule, inputs: Sequence[str]) -> fx.GraphModule:
    """Rebuilds an exported Caller as a plain GraphModule of its model, with one tensor or a tuple of them out."""
    graph, names = fx.Graph(), iter(inputs)
    values: dict[fx.Node, fx.Node] = {}
    tensors: dict[str, object] = {}
    for node in exported.graph.nodes:
        if node.op == "output":
            results = node.args[0] if isinstance(node.args[0], (tuple, list)) else (node.args[0],)
            outputs = tuple(values[result] for result in results)
            graph.output(outputs[0] if len(outputs) == 1 else outputs)
        elif node.op == "placeholder":
            values[node] = graph.placeholder(next(names))
            values[node].meta = dict(node.meta)
        elif node.op != "call_module":  # guards: nothing else remains a module after export
            values[node] = graph.node_copy(node, lambda n: values[n])
            if node.op == "get_attr":
                name = str(node.target).removeprefix(_MODEL)
                values[node].target = _free_name(name)
                values[node].meta["parameter"] = name
                tensors[str(values[node].target)] = tensor_at(exported, str(node.target)).detach()
            elif "nn_module_stack" in node.meta:
                values[node].meta["nn_module_stack"] = _own_stack(node.meta["nn_module_stack"])
    return fx.GraphModule(tensors, graph)


def _free_name(name: str) -> str:
    """The name of a tensor, behind a prefix where a GraphModule has an attribute like its first part."""
    return f"of_{name}" if name.partition(".")[0] in _TAKEN else name


def _own_stack(stack: dict[str, tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
    """A node's modules without the Caller around the model."""
    inner = {key: (str(entry[0]), entry[1]) for key, entry in stack.items() if entry[0]}
    return {key: (path.removeprefix(_MODEL) if path != "model" else "", kind) for key, (path, kind) in inner.items()}
