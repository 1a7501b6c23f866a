"""Signatures: what a converted network is called with and what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.convert.structure import TENSOR, Structure, flatten, structure_from_json, unflatten
from snnconvert.errors import ArtifactError, InputError

FLOATING = "float32"


@dataclass(frozen=True)
class TensorSpec:
    """One input tensor.

    Attributes:
        name: where it stands in the call, such as "pixel_values" or "features.0".
        shape: of one sample, without the batch; of the whole tensor if it has no batch. None: any size.
        dtype: its type; "float32" stands for every floating type.
        batched: whether its first dimension is the batch.
        traced: the shape it had when the network was captured; by default ``shape``.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = FLOATING
    batched: bool = True
    traced: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.traced:
            object.__setattr__(self, "traced", self.shape)
        fits = len(self.traced) == len(self.shape)
        if not fits or any(
            size is None or want not in (None, size) for want, size in zip(self.shape, self.traced, strict=True)
        ):
            raise ValueError(f"{self.name}: {self.traced} is no shape like {self.shape}")

    @property
    def is_floating(self) -> bool:
        """Whether any floating type will do."""
        return self.dtype == FLOATING

    def accepts(self, tensor: Tensor) -> bool:
        """Whether a tensor has this type and shape."""
        sizes = tuple(tensor.shape[1:]) if self.batched else tuple(tensor.shape)
        fits = len(sizes) == len(self.shape) and (tensor.dim() > 0 or not self.batched)
        known = all(want is None or want == size for want, size in zip(self.shape, sizes, strict=False))
        typed = tensor.is_floating_point() if self.is_floating else str(tensor.dtype) == f"torch.{self.dtype}"
        return fits and known and typed

    def __str__(self) -> str:
        sizes = ", ".join(
            [*(["N"] if self.batched else []), *("*" if size is None else str(size) for size in self.shape)]
        )
        return f"{'floating-point' if self.is_floating else self.dtype} input [{sizes}]"

    def trial(self, batch: int) -> Tensor:
        """Zeros of the traced shape."""
        return torch.zeros([*([batch] if self.batched else []), *self.traced], dtype=dtype_of(self.dtype))


@dataclass(frozen=True)
class Signature:
    """How a network is called and what it returns.

    Attributes:
        parameters: names of the arguments that may be given by position; empty where they can't be named.
        call: description of ``(args, kwargs)``, with every argument that has a name among the keywords.
        tensors: its tensors, in order.
        result: description of what it returns.
    """

    parameters: tuple[str, ...]
    call: Structure
    tensors: tuple[TensorSpec, ...]
    result: Structure

    def __post_init__(self) -> None:
        if self.call.tensors != len(self.tensors) or not any(spec.batched for spec in self.tensors):
            raise ValueError(f"{len(self.tensors)} tensors do not fit a call of {self.call.tensors}")

    @classmethod
    def of_one_tensor(cls, shape: Sequence[int]) -> Signature:
        """One floating tensor [N, *shape] in, one tensor out."""
        return cls(("input",), _call_of_one_tensor(("input",)), (TensorSpec("input", tuple(shape)),), TENSOR)

    @property
    def one_input(self) -> TensorSpec | None:
        """The spec of its input if it takes one floating tensor and nothing else."""
        (spec, *others) = self.tensors
        return spec if not others and spec.batched and spec.is_floating else None

    @property
    def has_fixed_sizes(self) -> bool:
        """Whether every size but the batch's is known."""
        return all(size is not None for spec in self.tensors for size in spec.shape)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of one sample of its first tensor with a batch; None: any size."""
        return next(spec.shape for spec in self.tensors if spec.batched)

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The tensors of a call, checked, floating ones as float32.

        Raises:
            InputError: if arguments, types or shapes aren't those the network was converted for.
        """
        if self._is_one_tensor and len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            (leaf,) = args  # the usual call, which needn't be taken apart: small networks take a third of a millisecond
            if self.tensors[0].accepts(leaf):
                return (_as_float32(leaf),)
        positional, named = canonical_call(self.parameters, args, kwargs)
        leaves, structure = flatten((positional, self._completed(named)), "the input")
        if not _same_shape(structure, self.call):
            raise InputError(f"expected the arguments {_arguments(self.call)}, got {_arguments(structure)}")
        for spec, leaf in zip(self.tensors, leaves, strict=True):
            if not spec.accepts(leaf):
                where = f"{spec.name}: " if len(self.tensors) > 1 else ""
                raise InputError(f"{where}expected {spec}, got {leaf.dtype} {list(leaf.shape)}{_hint(spec, leaf)}")
        batches = {leaf.shape[0] for spec, leaf in zip(self.tensors, leaves, strict=True) if spec.batched}
        if len(batches) > 1:
            raise InputError(f"the inputs' batch sizes differ: {sorted(batches)}")
        return tuple(map(_as_float32, leaves))

    @cached_property
    def _is_one_tensor(self) -> bool:
        """Whether its call is that of one tensor by position."""
        return len(self.tensors) == 1 and self.call == _call_of_one_tensor(self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that take tensors."""
        return tuple(dict.fromkeys([*self.parameters, *map(str, self.call.children[1].keys)]))

    def batch_of(self, leaves: Sequence[Tensor]) -> int:
        """The batch size of a call's tensors."""
        return next(leaf.shape[0] for spec, leaf in zip(self.tensors, leaves, strict=True) if spec.batched)

    def unflatten(self, output: Any) -> Any:
        """What the network returns, from what its graph returns: one tensor or a sequence of them."""
        if self.result.is_tensor:
            return output
        return unflatten(self.result, output if isinstance(output, (tuple, list)) else (output,))

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form."""
        return {
            "parameters": list(self.parameters),
            "call": self.call.to_json(),
            "tensors": [
                {
                    "name": item.name,
                    "shape": list(item.shape),
                    "dtype": item.dtype,
                    "batched": item.batched,
                    "traced": list(item.traced),
                }
                for item in self.tensors
            ],
            "result": self.result.to_json(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Signature:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ArtifactError: if a type is unknown or a description damaged.
            TypeError, KeyError, ValueError: if something is missing or of another type.
        """
        tensors = tuple(
            TensorSpec(
                str(item["name"]),
                tuple(None if size is None else _size(size) for size in item["shape"]),
                str(item["dtype"]),
                bool(item["batched"]),
                tuple(map(_size, item["traced"])),
            )
            for item in data["tensors"]
        )
        for spec in tensors:
            dtype_of(spec.dtype)
        parameters = tuple(str(name) for name in data["parameters"])
        call = structure_from_json(data["call"])
        return cls(parameters, call, tensors, structure_from_json(data["result"]))

    def _completed(self, named: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments with the constants that the call left out."""
        _, keywords = self.call.children
        constants = {
            str(key): unflatten(child, ())
            for key, child in zip(keywords.keys, keywords.children, strict=True)
            if child.tensors == 0
        }
        given = {**constants, **named}
        order = [str(key) for key in keywords.keys]
        return {key: given[key] for key in sorted(given, key=lambda k: order.index(k) if k in order else len(order))}


def _call_of_one_tensor(parameters: Sequence[str]) -> Structure:
    """What a call with one tensor by position looks like."""
    _, call = flatten(canonical_call(parameters, (torch.empty(0),), {}), "the call")
    return call


def _as_float32(leaf: Tensor) -> Tensor:
    """A floating tensor as float32, any other as it is."""
    return leaf.float() if leaf.is_floating_point() else leaf


def parameters_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the arguments of a model's forward that may be given by position or by name.

    Empty if some can be given by position only, so that the others can't be moved to names.
    """
    found = _forward_parameters(model)
    if any(item.kind in (item.VAR_POSITIONAL, item.POSITIONAL_ONLY) for item in found):
        return ()
    return tuple(item.name for item in found if item.kind is item.POSITIONAL_OR_KEYWORD)


def argument_names(model: nn.Module) -> tuple[str, ...]:
    """Names of all arguments of a model's forward that may be given by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(item.name for item in _forward_parameters(model) if item.kind in kinds)


def _forward_parameters(model: nn.Module) -> list[inspect.Parameter]:
    """The parameters of a model's forward; none if Python can't tell."""
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []


def canonical_call(
    parameters: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with every argument that has a name given by name, in the order of the parameters.

    Raises:
        InputError: if there are more arguments than parameters, or one is given twice.
    """
    if not parameters:
        return tuple(args), dict(kwargs)
    if len(args) > len(parameters):
        raise InputError(f"{len(args)} positional arguments, but there are only {', '.join(parameters)}")
    positional = dict(zip(parameters, args, strict=False))
    twice = sorted(set(positional) & set(kwargs))
    if twice:
        raise InputError(f"{', '.join(twice)}: given by position and by name")
    given = {**positional, **kwargs}
    ordered = [name for name in parameters if name in given]
    return (), {name: given[name] for name in [*ordered, *(name for name in given if name not in ordered)]}


def dtype_of(name: str) -> torch.dtype:
    """The tensor type of a name.

    Raises:
        ArtifactError: if there is none.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ArtifactError(f"unknown tensor type {name!r}")
    return found


def _same_shape(given: Structure, expected: Structure) -> bool:
    """Whether two descriptions hold tensors and constants at the same places; lists and tuples are the same."""
    if given.kind != expected.kind and {given.kind, expected.kind} != {"list", "tuple"}:
        mappings = {"dict", "ordered", "record"}
        if given.kind not in mappings or expected.kind not in mappings:
            return False
    if given.keys != expected.keys or given.value != expected.value or type(given.value) is not type(expected.value):
        return False
    return len(given.children) == len(expected.children) and all(
        _same_shape(one, other) for one, other in zip(given.children, expected.children, strict=True)
    )


def _arguments(call: Structure) -> str:
    args, kwargs = call.children
    named = [f"{key}={child}" for key, child in zip(kwargs.keys, kwargs.children, strict=True)]
    return f"({', '.join([*map(str, args.children), *named])})"


def _hint(spec: TensorSpec, leaf: Tensor) -> str:
    """What to do about an image of another size."""
    is_image = spec.batched and len(spec.shape) == 3 and leaf.dim() == 4 and spec.shape[0] == leaf.shape[1]
    return "; for other image sizes convert with dynamic_sizes=True" if is_image and leaf.is_floating_point() else ""


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value
