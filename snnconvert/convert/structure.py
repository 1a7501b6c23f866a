"""Structures: nested dicts, tuples and records of tensors as a flat tuple of tensors and a description.

A description is plain data, so that it can be saved as JSON: what is rebuilt from it imports nothing.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from snnconvert.errors import ArtifactError, InputError
from snnconvert.inputs import Inputs

Scalar = bool | int | float | str | None
_SEQUENCES = ("tuple", "list")
_MAPPINGS = ("dict", "ordered")
_RECORDS = ("named", "record")
_KINDS = ("tensor", "value", *_SEQUENCES, *_MAPPINGS, *_RECORDS)


class Record(dict[str, Any]):
    """A dict whose items are attributes, too, and can be indexed by number: a loaded network's named outputs.

    Namedtuples and records such as Hugging Face's ``ModelOutput`` come back as this after saving and
    loading, since their classes aren't imported. Fields of a record that are None are attributes only.
    """

    def __init__(self, items: Mapping[str, Any], fields: Sequence[str] = ()) -> None:
        super().__init__(items)
        self._fields = tuple(fields)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return super().__getitem__(name)
        if not name.startswith("_") and name in self._fields:
            return None
        raise AttributeError(f"no field {name!r}: there are {', '.join(self)}")


@dataclass(frozen=True)
class Structure:
    """One node of a description.

    Attributes:
        kind: "tensor", "value", "tuple", "list", "dict", "ordered" (an OrderedDict), "named" (a namedtuple) or
            "record" (any other mapping or dataclass).
        children: what it holds, in order.
        keys: of mappings and records, the key of each child.
        value: of values, the number, string or None itself.
        origin: of namedtuples and records, their class, where it is known; not saved, not compared.
    """

    kind: str
    children: tuple[Structure, ...] = ()
    keys: tuple[str | int, ...] = ()
    value: Scalar = None
    origin: type[Any] | None = field(default=None, compare=False)

    @property
    def tensors(self) -> int:
        """Number of tensors."""
        return 1 if self.kind == "tensor" else sum(child.tensors for child in self.children)

    @property
    def is_tensor(self) -> bool:
        """Whether it is one tensor and nothing around it."""
        return self.kind == "tensor"

    def paths(self, prefix: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
        """Keys and positions that lead to each tensor."""
        if self.kind == "tensor":
            yield prefix
        keys = self.keys or range(len(self.children))
        for key, child in zip(keys, self.children, strict=True):
            yield from child.paths((*prefix, key))

    def __str__(self) -> str:
        if self.kind in ("tensor", "value"):
            return "tensor" if self.kind == "tensor" else repr(self.value)
        parts = [str(child) for child in self.children]
        if self.kind in _SEQUENCES:
            inside = ", ".join(parts)
            return f"[{inside}]" if self.kind == "list" else f"({inside}{',' if len(parts) == 1 else ''})"
        return "{" + ", ".join(f"{key}: {part}" for key, part in zip(self.keys, parts, strict=True)) + "}"

    def to_json(self) -> dict[str, Any]:
        """The JSON-able form; :func:`structure_from_json` reads it back."""
        if self.kind == "tensor":
            return {"kind": "tensor"}
        if self.kind == "value":
            value = {"float": self.value.hex()} if isinstance(self.value, float) else self.value
            return {"kind": "value", "value": value}
        keys = {} if self.kind in _SEQUENCES else {"keys": list(self.keys)}
        return {"kind": self.kind, **keys, "children": [child.to_json() for child in self.children]}


TENSOR = Structure("tensor")


def flatten(value: Any, where: str) -> tuple[tuple[Tensor, ...], Structure]:
    """Takes nested containers apart.

    Args:
        value: a tensor, a number, string or None, or a list, tuple, namedtuple, mapping or dataclass of these.
        where: what the value is, for the error.

    Returns:
        Its tensors, in order, and its description.

    Raises:
        InputError: naming the first thing that is none of these.
    """
    leaves: list[Tensor] = []
    structure = _describe(value, where, leaves)
    return tuple(leaves), structure


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """Puts leaves in the places of a description's tensors: undoes :func:`flatten`.

    Raises:
        ValueError: if there are more or fewer leaves than tensors.
    """
    if len(leaves) != structure.tensors:
        raise ValueError(f"{len(leaves)} tensors for a structure of {structure.tensors}")
    return _build(structure, iter(leaves))


def flatten_inputs(inputs: Inputs, where: str) -> tuple[tuple[Tensor, ...], Structure]:
    """:func:`flatten` of the arguments of a call."""
    return flatten((inputs.args, dict(inputs.kwargs)), where)


def unflatten_inputs(structure: Structure, leaves: Sequence[Any]) -> Inputs:
    """The arguments of a call from what :func:`flatten_inputs` gave, with other tensors."""
    args, kwargs = unflatten(structure, leaves)
    return Inputs(*args, **kwargs)


def structure_from_json(data: Any) -> Structure:
    """Reads what :meth:`Structure.to_json` wrote.

    Raises:
        ArtifactError: on anything else.
    """
    try:
        return _read(data)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"a structure is damaged: {type(error).__name__}") from None


def _describe(value: Any, where: str, leaves: list[Tensor]) -> Structure:
    if isinstance(value, Tensor):
        leaves.append(value)
        return TENSOR
    if value is None or isinstance(value, (bool, int, float, str)):
        return Structure("value", value=value)
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):  # a number, while torch traces
        return Structure("value")
    kind, items = _taken_apart(value, where)
    children = tuple(_describe(item, f"{where}[{key!r}]", leaves) for key, item in items)
    keys = () if kind in _SEQUENCES else tuple(key for key, _ in items)
    return Structure(kind, children, keys, origin=type(value) if kind in _RECORDS else None)


def _taken_apart(value: Any, where: str) -> tuple[str, list[tuple[Any, Any]]]:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "named", list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return ("list" if isinstance(value, list) else "tuple"), list(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "record", [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        if not all(isinstance(key, (str, int)) for key in value):
            raise InputError(f"{where} is a {type(value).__name__} with keys that are neither strings nor integers")
        kind = "dict" if type(value) is dict else "ordered" if type(value) is OrderedDict else "record"
        return kind, list(value.items())
    raise InputError(
        f"{where} is {type(value).__name__}: expected tensors, numbers, strings and None in lists, tuples, "
        "dicts, namedtuples or dataclasses"
    )


def _build(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure.kind == "tensor":
        return next(leaves)
    if structure.kind == "value":
        return structure.value
    children = [_build(child, leaves) for child in structure.children]
    if structure.kind in _SEQUENCES:
        return children if structure.kind == "list" else tuple(children)
    items = dict(zip(structure.keys, children, strict=True))
    if structure.kind in _MAPPINGS:
        return items if structure.kind == "dict" else OrderedDict(items)
    return _build_record(structure, items)


def _build_record(structure: Structure, items: dict[Any, Any]) -> Any:
    origin = structure.origin
    if origin is None:
        given = items if structure.kind == "named" else {k: v for k, v in items.items() if v is not None}
        return Record(given, [str(key) for key in items])
    if structure.kind == "named" or dataclasses.is_dataclass(origin):
        return origin(**items)
    return origin(items)


def _read(data: Any) -> Structure:
    kind = data["kind"]
    if kind not in _KINDS or set(data) - {"kind", "keys", "children", "value"}:
        raise ValueError(kind)
    if kind == "tensor":
        return TENSOR
    if kind == "value":
        value = data["value"]
        if isinstance(value, dict):
            value = float.fromhex(value["float"])
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise TypeError(type(value))
        return Structure("value", value=value)
    children = tuple(_read(child) for child in data["children"])
    keys = () if kind in _SEQUENCES else tuple(data["keys"])
    if kind not in _SEQUENCES and (len(keys) != len(children) or len(set(keys)) != len(keys)):
        raise ValueError("keys")
    if not all(isinstance(key, str) or (isinstance(key, int) and kind in _MAPPINGS) for key in keys):
        raise TypeError("keys")
    return Structure(kind, children, keys)
