"""Inputs from whatever a user's loader gives: tensors, (x, y) pairs, dicts, Inputs, or through a transform."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnconvert.convert.structure import flatten, flatten_inputs, unflatten_inputs
from snnconvert.errors import InputError
from snnconvert.inputs import Inputs

_INPUT_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x", "img")
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")
_CHUNK = 32


def input_batches(
    loader: Iterable[Any] | Tensor,
    transform: Callable[[Any], Any] | None = None,
    parameters: Sequence[str] = (),
) -> Iterator[Inputs]:
    """Yields the arguments of one call for each item of a loader, checked, floating tensors as float32.

    A tensor that is not given as Inputs or by the name of an argument is taken for pixels: float32, too.

    Args:
        loader: an iterable of batches, or one tensor [N, ...], which is read in parts. A batch is a tensor, an
            (input, label) pair, a dict of the model's arguments (labels and what isn't an argument are
            dropped) or with the input under a usual key, or an :class:`~snnconvert.inputs.Inputs`.
        transform: turns one item of the loader into a tensor, a dict or Inputs.
        parameters: names of the model's arguments.

    Raises:
        InputError: on an item with no input tensor, an empty batch, or NaN or Inf, naming the batch.
    """
    for index, item in enumerate(items_of(loader)):
        yield inputs_of_item(item, index, transform, parameters)


def inputs_of_item(
    item: Any, index: int, transform: Callable[[Any], Any] | None = None, parameters: Sequence[str] = ()
) -> Inputs:
    """The arguments of one call from one item of a loader; see :func:`input_batches`.

    Raises:
        InputError: likewise; ``index`` is the batch it names.
    """
    found = _transformed(transform(item), index, parameters) if transform is not None else None
    return checked(found or _inputs_of(item, index, parameters), index)


def items_of(loader: Iterable[Any] | Tensor) -> Iterable[Any]:
    """The items of a loader; of a tensor [N, ...], its parts.

    Raises:
        InputError: if it isn't iterable, or a tensor without a batch.
    """
    if isinstance(loader, Tensor):
        if loader.dim() < 2:
            raise InputError(f"the calibration tensor has shape {tuple(loader.shape)}: expected [N, ...]")
        return torch.split(loader, _CHUNK)
    if not isinstance(loader, Iterable):
        raise InputError(
            f"the calibration loader is {type(loader).__name__}: give it an iterable of batches or a tensor, or "
            "snnconvert.NoData(example) to calibrate without data"
        )
    return loader


def labels_of(item: Any, samples: int) -> Tensor | None:
    """The labels int64 [N] that an item of a loader brings: of an (input, label) pair, or under a usual key.

    None if it brings none, or any of them is below 0, which stands for an unknown one.
    """
    if isinstance(item, Mapping):
        found = next((item[key] for key in _LABEL_KEYS if key in item), None)
    else:
        found = item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else None
    integral = isinstance(found, Tensor) and not found.is_floating_point() and not found.is_complex()
    if not isinstance(found, Tensor) or not integral or found.shape != (samples,) or bool((found < 0).any()):
        return None
    return found.long()


def checked(inputs: Inputs, index: int) -> Inputs:
    """The same arguments with floating tensors as float32; integers, such as indices, stay.

    Raises:
        InputError: on an empty batch, or NaN, Inf or complex numbers, naming the batch.
    """
    leaves, structure = flatten_inputs(inputs, f"batch {index}")
    if not leaves:
        raise InputError(f"batch {index} holds no tensor")
    bare = len(leaves) == 1 and bool(inputs.args) and isinstance(inputs.args[0], Tensor)
    if bare and (leaves[0].dim() < 2 or leaves[0].shape[0] == 0):
        raise InputError(f"batch {index} has shape {tuple(leaves[0].shape)}: expected [N, ...] with N of at least 1")
    return unflatten_inputs(structure, [_checked(leaf, index) for leaf in leaves])


def _checked(leaf: Tensor, index: int) -> Tensor:
    values = leaf.float() if leaf.is_floating_point() else leaf
    if values.is_complex() or (values.is_floating_point() and not torch.isfinite(values).all()):
        raise InputError(f"batch {index} holds NaN, Inf or complex numbers: clean the calibration images")
    return values


def _image_inputs(images: Tensor) -> Inputs:
    """The only argument of a call, which a loader gives by itself: pixels, as float32 whatever their type."""
    return Inputs(images if images.is_complex() else images.float())


def _transformed(result: Any, index: int, parameters: Sequence[str]) -> Inputs:
    if isinstance(result, Tensor):
        return _image_inputs(result)
    if isinstance(result, Inputs):
        return result
    if isinstance(result, Mapping):
        return _inputs_of(result, index, parameters)
    raise InputError(
        f"transform returned {type(result).__name__} for batch {index}, not a tensor, a dict or snnconvert.Inputs"
    )


def _inputs_of(item: Any, index: int, parameters: Sequence[str]) -> Inputs:
    if isinstance(item, Inputs):
        return item
    if isinstance(item, Tensor):
        return _image_inputs(item)
    if isinstance(item, (tuple, list)) and item and isinstance(item[0], (Tensor, Inputs)):
        return item[0] if isinstance(item[0], Inputs) else _image_inputs(item[0])
    if isinstance(item, (tuple, list)) and item and _holds_tensors(item[0]):
        return _inputs_of(item[0], index, parameters) if isinstance(item[0], Mapping) else Inputs(item[0])
    if isinstance(item, Mapping):
        return _keyword_inputs(item, index, parameters)
    raise InputError(
        f"batch {index} is {type(item).__name__}, not a tensor, (input, label) pair, dict or snnconvert.Inputs: "
        "pass transform= to turn it into one"
    )


def _holds_tensors(value: Any) -> bool:
    try:
        return bool(flatten(value, "")[0])
    except InputError:
        return False


def _keyword_inputs(item: Mapping[Any, Any], index: int, parameters: Sequence[str]) -> Inputs:
    named = {name: item[name] for name in parameters if name in item and name not in _LABEL_KEYS}
    if any(_holds_tensors(value) for value in named.values()):
        return Inputs(**named)
    for key in _INPUT_KEYS:
        if isinstance(item.get(key), Tensor):
            return _image_inputs(item[key])
    known = ", ".join(dict.fromkeys([*parameters, *_INPUT_KEYS]))
    raise InputError(
        f"batch {index} is a dict with keys {sorted(map(str, item))}, none of {known}: "
        "pass transform= to pick the input tensor"
    )
