"""Capture: an nn.Module becomes one flat ATen-level torch.fx graph with a dynamic batch."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from snnconvert.convert.graph_tools import tensor_at
from snnconvert.convert.passes.lower_views import lower_views
from snnconvert.errors import ConversionError, first_line

CHECK_BATCH = 3
RELATIVE_TOLERANCE = 1e-4


def capture(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Captures the inference graph of a model that maps one tensor to one tensor.

    A copy of the model is exported in evaluation mode and float32 at a dynamic batch size, in-place
    operations become functional ones, and the result is checked against the model at another batch
    size. The model itself is left untouched. Every node keeps its layer's name in
    ``meta["nn_module_stack"]``; parameters are ``get_attr`` nodes with their own names.

    Args:
        model: the network.
        example: one or more input samples, [N, ...], on the model's device.

    Returns:
        An fx.GraphModule equal to the model's ``eval()`` forward pass.

    Raises:
        ConversionError: if the model can't be exported, returns anything but one tensor, holds NaN
            or Inf, doesn't support other batch sizes, or its graph disagrees with it.
    """
    if example.dim() < 1 or example.shape[0] == 0:
        raise ConversionError(f"the example input has shape {tuple(example.shape)}: it needs at least one sample")
    reference = _copy_of(model)
    _refuse_non_finite_weights(reference)
    batch = _batch_of(example.float(), CHECK_BATCH)
    expected = _run_reference(reference, batch)
    graph_module = lower_views(_export(reference, batch[:2]))
    _check_equal(graph_module, batch, expected)
    return graph_module


def _copy_of(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval().float().requires_grad_(False)
    except Exception as error:  # whatever the user's own attributes make deepcopy raise
        raise ConversionError(f"{type(model).__name__} can't be copied: {first_line(error)}") from error


def _batch_of(example: Tensor, size: int) -> Tensor:
    repeats = -(-size // example.shape[0])
    return torch.cat([example] * repeats)[:size].clone()


def _run_reference(reference: nn.Module, batch: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            output = reference(batch)
    except Exception as error:  # the user's own model may raise anything
        raise ConversionError(
            f"{type(reference).__name__} fails on an input of shape {tuple(batch.shape)}: {first_line(error)}"
        ) from error
    if not isinstance(output, Tensor):
        raise ConversionError(
            f"{type(reference).__name__} returns {type(output).__name__}, not one tensor: "
            "wrap it in a module that returns the tensor to convert for"
        )
    if output.dim() == 0 or output.shape[0] != batch.shape[0]:
        raise ConversionError(
            f"{type(reference).__name__} maps {tuple(batch.shape)} to {tuple(output.shape)}: "
            "the first dimension of its output must be the batch"
        )
    if not torch.isfinite(output).all():
        raise ConversionError(f"{type(reference).__name__} returns NaN or Inf on the example input: repair it first")
    return output


def _refuse_non_finite_weights(model: nn.Module) -> None:
    """Refuses NaN anywhere and Inf in parameters and running statistics; attention masks may hold Inf."""
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise ConversionError(f"{name} holds NaN or Inf: repair the weights before converting")
    for name, buffer in model.named_buffers():
        statistic = name.endswith(("running_mean", "running_var"))
        broken = torch.isnan(buffer).any() or (statistic and not torch.isfinite(buffer).all())
        if buffer.is_floating_point() and broken:
            raise ConversionError(f"{name} holds NaN or Inf: repair the weights before converting")


@contextmanager
def _quiet_export() -> Iterator[None]:
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _export(model: nn.Module, example: Tensor) -> fx.GraphModule:
    try:
        with _quiet_export(), torch.no_grad():
            program = torch.export.export(
                model, (example,), strict=False, dynamic_shapes=(({0: Dim.DYNAMIC}),)
            ).run_decompositions({})
            exported = program.module(check_guards=False)
    except Exception as error:  # torch.export raises many types for the user's own code
        raise ConversionError(
            f"{type(model).__name__} can't be captured by torch.export: {first_line(error)}"
        ) from error
    return _as_plain_graph(exported)


def _as_plain_graph(exported: fx.GraphModule) -> fx.GraphModule:
    """Rebuilds an exported module as a plain GraphModule with one tensor in and one tensor out."""
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    tensors: dict[str, object] = {}
    for node in exported.graph.nodes:
        if node.op == "output":
            (result,) = node.args[0] if isinstance(node.args[0], (tuple, list)) else (node.args[0],)
            graph.output(values[result])
        elif node.op == "call_module":  # guards: nothing else remains a module after export
            continue
        else:
            values[node] = graph.node_copy(node, lambda n: values[n])
            if node.op == "get_attr":
                tensors[str(node.target)] = tensor_at(exported, str(node.target)).detach()
    return fx.GraphModule(tensors, graph)


def _check_equal(graph_module: fx.GraphModule, batch: Tensor, expected: Tensor) -> None:
    for size in (batch.shape[0], 1):
        try:
            with torch.no_grad():
                actual = graph_module(batch[:size])
        except Exception as error:  # a graph specialized on its batch size fails in its own ways
            raise ConversionError(f"the captured graph fails at batch size {size}: {first_line(error)}") from error
        _check_output(actual, expected[:size], size)


def _check_output(actual: Tensor, expected: Tensor, size: int) -> None:
    reason = "the model is not deterministic, or mixes the samples of a batch"
    if actual.shape != expected.shape:
        raise ConversionError(
            f"the captured graph returns {tuple(actual.shape)} at batch size {size}, "
            f"not {tuple(expected.shape)}: {reason}"
        )
    difference = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not difference <= RELATIVE_TOLERANCE:
        raise ConversionError(
            f"the captured graph differs from the model by {difference:.2g} (relative) at batch size {size}: {reason}"
        )
