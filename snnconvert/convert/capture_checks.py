"""Checks of a capture: the model and its graph on the same inputs, at several batch sizes and image sizes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconvert.convert.signature import TensorSpec
from snnconvert.convert.sizes import at_batch, other_sizes
from snnconvert.convert.structure import Structure, flatten
from snnconvert.convert.user_line import user_line
from snnconvert.errors import ConversionError, InputError, first_line

RELATIVE_TOLERANCE = 1e-4
Leaves = tuple[Tensor, ...]


def copy_of(model: nn.Module) -> nn.Module:
    """A copy of a model in evaluation mode and float32.

    Raises:
        ConversionError: if it can't be copied, or its weights hold NaN or Inf.
    """
    _refuse_scripts(model)
    reference = frozen_copy(model, in_float32=True)
    _refuse_non_finite_weights(reference)
    return reference


def frozen_copy(model: nn.Module, *, in_float32: bool = False) -> nn.Module:
    """A copy of the model in evaluation mode and without gradients, in its own types or in float32.

    Raises:
        ConversionError: if it can't be copied.
    """
    try:
        copied = copy.deepcopy(model, _computed_tensors(model)).eval()
        return (copied.float() if in_float32 else copied).requires_grad_(False)
    except Exception as error:  # whatever the user's own attributes make deepcopy raise
        raise ConversionError(f"{type(model).__name__} can't be copied: {first_line(error)}") from error


def _refuse_scripts(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ConversionError(
                f"{name or type(model).__name__} is a TorchScript module, which torch.export can't read: "
                "convert the Python module it was made from"
            )


def _computed_tensors(model: nn.Module) -> dict[int, Any]:
    """A memo for deepcopy, which refuses tensors with a history, as ``torch.nn.utils.weight_norm`` keeps them."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return memo


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


class Caller(nn.Module):
    """A model as a function of a flat tuple of tensors that returns a flat tuple of tensors."""

    def __init__(self, model: nn.Module, call: Structure, build: Any) -> None:
        super().__init__()
        self.model = model
        self._call, self._build = call, build

    def forward(self, *leaves: Tensor) -> Leaves:
        """The tensors of what the model returns."""
        args, kwargs = self._build(self._call, leaves)
        return flatten(self.model(*args, **kwargs), "the output")[0]

    def returned(self, leaves: Leaves) -> tuple[Leaves, Structure]:
        """What the model returns, taken apart.

        Raises:
            ConversionError: if the model fails, or returns something else than tensors in containers.
        """
        name = type(self.model).__name__
        args, kwargs = self._build(self._call, leaves)
        try:
            with torch.no_grad():
                output = self.model(*args, **kwargs)
        except Exception as error:  # the user's own model may raise anything
            hint = "; give indices as snnconvert.Inputs(indices)" if "argument #1 'indices'" in str(error) else ""
            raise ConversionError(
                f"{name} fails on an input of shape {_shapes(leaves)}{user_line(error)}: {first_line(error)}{hint}"
            ) from error
        try:
            return flatten(output, "its output")
        except InputError as error:
            raise ConversionError(f"{name} returns what can't be converted: {error}") from None


def check_result(name: str, batch: int, leaves: Leaves, inputs: Leaves) -> None:
    """Refuses outputs without a batch, and NaN and Inf.

    Raises:
        ConversionError: naming the shape.
    """
    if not leaves:
        raise ConversionError(f"{name} returns no tensor")
    if not any(leaf.dim() > 0 and leaf.shape[0] == batch for leaf in leaves):
        raise ConversionError(
            f"{name} maps {_shapes(inputs)} to {_shapes(leaves)}: the first dimension of its output must be the batch"
        )
    if not all(bool(torch.isfinite(leaf).all()) for leaf in leaves):
        raise ConversionError(f"{name} returns NaN or Inf on the example input: repair it first")


def check_batches(
    graph: fx.GraphModule,
    caller: Caller,
    specs: Sequence[TensorSpec],
    batch: Leaves,
    returned: tuple[Leaves, Structure],
) -> None:
    """Compares graph and model at a batch size and at 1, where every sample must give what it gave among others.

    Args:
        graph: the graph.
        caller: the model.
        specs: its inputs.
        batch: a batch of several samples.
        returned: what the model returns for it.

    Raises:
        ConversionError: if they differ.
    """
    expected, structure = returned
    size = next(leaf.shape[0] for spec, leaf in zip(specs, batch, strict=True) if spec.batched)
    _compare(_run(graph, batch, f"batch size {size}"), expected, f"batch size {size}")
    single = at_batch(batch, specs, 1)
    alone, structure_alone = caller.returned(single)
    if structure_alone != structure:
        raise ConversionError(
            f"{type(caller.model).__name__} returns {structure_alone} for one sample and {structure} for {size}: "
            "what isn't a tensor must not depend on the batch"
        )
    first = tuple(
        whole[:1] if whole.dim() > 0 and whole.shape[0] == size else own
        for whole, own in zip(expected, alone, strict=True)
    )
    _compare(_run(graph, single, "batch size 1"), first, "batch size 1")


def check_sizes(graph: fx.GraphModule, caller: Caller, specs: Sequence[TensorSpec], batch: Leaves) -> str | None:
    """Compares graph and model at other image sizes.

    Returns:
        Why the graph is not the model's at other sizes, or None if it is.
    """
    ran = 0
    for leaves in other_sizes(at_batch(batch, specs, 1)):
        if not all(spec.accepts(leaf) for spec, leaf in zip(specs, leaves, strict=True)):
            continue
        try:
            expected, _ = caller.returned(leaves)
        except ConversionError as error:
            if ran == 0:
                return str(error)
            continue
        ran += 1
        try:
            where = f"input size {_shapes(leaves)}"
            _compare(_run(graph, leaves, where), expected, where)
        except ConversionError as error:
            return str(error)
    return None if ran else "its sizes depend on each other or are fixed"


def _run(graph: fx.GraphModule, leaves: Leaves, where: str) -> Leaves:
    try:
        with torch.no_grad():
            output = graph(*leaves)
    except Exception as error:  # a graph specialized on its sizes fails in its own ways
        raise ConversionError(f"the captured graph fails at {where}: {first_line(error)}") from error
    return tuple(output) if isinstance(output, (tuple, list)) else (output,)


def _compare(actual: Leaves, expected: Leaves, where: str) -> None:
    for got, wanted in zip(actual, expected, strict=True):
        _compare_tensors(got, wanted, where)


def _compare_tensors(actual: Tensor, expected: Tensor, where: str) -> None:
    reason = "the model is not deterministic, or mixes the samples of a batch"
    if actual.shape != expected.shape:
        raise ConversionError(
            f"the captured graph returns {tuple(actual.shape)} at {where}, not {tuple(expected.shape)}: {reason}"
        )
    if not expected.is_floating_point():
        if not torch.equal(actual, expected):
            raise ConversionError(f"the captured graph returns other {expected.dtype} values at {where}: {reason}")
        return
    if expected.numel() == 0:
        return
    difference = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not difference <= RELATIVE_TOLERANCE:
        raise ConversionError(
            f"the captured graph differs from the model by {difference:.2g} (relative) at {where}: {reason}"
        )


def _shapes(leaves: Leaves) -> str:
    shapes = [str(tuple(leaf.shape)) for leaf in leaves]
    return shapes[0] if len(shapes) == 1 else ", ".join(shapes)
