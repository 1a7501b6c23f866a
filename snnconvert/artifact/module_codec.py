"""Neurons and synapses as JSON settings plus tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnconvert.errors import ArtifactError
from snnconvert.neurons.code import BASE_FIELDS, MAX_COUNT
from snnconvert.neurons.current import IntegerScale, PoolGeometry, SumPool, ToReal
from snnconvert.neurons.neuron import SpikingNeuron
from snnconvert.neurons.product import OPERATIONS, Product
from snnconvert.neurons.registry import make_code, spelled
from snnconvert.neurons.synapse import ConvGeometry, Synapse
from snnconvert.neurons.transfer import LARGEST_TABLE, LeakyTransfer, TableTransfer
from snnconvert.neurons.weight_integers import FEWEST_WEIGHT_BITS, MOST_WEIGHT_BITS

_LARGEST_WORD = MAX_COUNT << 6
_LARGEST_SIZE = 1 << 16
_MOST_TERMS = 1 << 24


def module_to_json(module: nn.Module) -> dict[str, Any]:
    """Kind and settings of one module of a spiking graph; its tensors are saved apart.

    Raises:
        ArtifactError: if the module isn't one of this package.
    """
    if isinstance(module, SpikingNeuron):
        code = {key: getattr(module.code, key) for key in BASE_FIELDS}
        return {"kind": "neuron", "neuron": spelled(module.code), "code": code, "ceiling": module.ceiling}
    if isinstance(module, Synapse):
        geometry = None if module.geometry is None else dataclasses.asdict(module.geometry)
        settings = {
            "weight_bits": module.weight_bits,
            "word_range": list(module.word_range),
            "wide": module.wide,
        }
        return {"kind": "synapse", "geometry": geometry, **settings}
    if isinstance(module, IntegerScale):
        return {"kind": "integer_scale", "wide": module.wide}
    if isinstance(module, SumPool):
        return {"kind": "sum_pool", "geometry": dataclasses.asdict(module.geometry), "wide": module.wide}
    if isinstance(module, ToReal):
        return {"kind": "to_real"}
    if isinstance(module, Product):
        geometry = None if module.geometry is None else dataclasses.asdict(module.geometry)
        largest = module.largest.tolist()
        return {
            "kind": "product", "operation": module.operation, "geometry": geometry,
            "largest": largest, "wide": module.wide,
        }  # fmt: skip
    if isinstance(module, LeakyTransfer):
        return {"kind": "leaky_transfer"}
    if isinstance(module, TableTransfer):
        return {"kind": "table_transfer"}
    raise ArtifactError(f"{type(module).__name__} can't be saved: it is no neuron or synapse of this package")


def module_from_json(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Rebuilds a module from its settings and tensors.

    Raises:
        ArtifactError: if the kind is unknown.
        KeyError: if a tensor or a setting is missing.
    """
    values = dict(settings)
    kind = values.pop("kind")
    if kind == "neuron":
        return _neuron(values, tensors)
    if kind == "synapse":
        return _synapse(values, tensors)
    if kind == "product":
        return _product(values, tensors)
    if kind == "leaky_transfer":
        for name in ("gain", "negative_gain"):
            _check_tensor(tensors, name, torch.float32)
        return LeakyTransfer(tensors["gain"], tensors["negative_gain"])
    if kind == "table_transfer":
        return _table_transfer(tensors)
    if kind in ("integer_scale", "sum_pool"):
        _check_tensor(tensors, "multiplier", torch.float64)
    if kind == "integer_scale":
        return IntegerScale(tensors["multiplier"], wide=bool(values["wide"]))
    if kind == "sum_pool":
        if set(values["geometry"]) != {field.name for field in dataclasses.fields(PoolGeometry)}:
            raise ArtifactError(f"graph.json: unknown pool settings {sorted(values['geometry'])}")
        lowest = {"kernel": 1, "stride": 1, "padding": 0, "dims": 0}
        sizes = {key: _sizes(values["geometry"][key], low) for key, low in lowest.items()}
        geometry = PoolGeometry(**sizes, keepdim=bool(values["geometry"]["keepdim"]))
        return SumPool(tensors["multiplier"], geometry, wide=bool(values["wide"]))
    if kind == "to_real":
        _check_tensor(tensors, "unit", torch.float64)
        return ToReal(tensors["unit"])
    raise ArtifactError(f"graph.json: unknown module kind {kind!r}")


def _neuron(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SpikingNeuron:
    window = values["code"]
    if set(window) != set(BASE_FIELDS):
        raise ArtifactError(f"graph.json: unknown code settings {sorted(window)}")
    plain = make_code(values["neuron"], window["bits"], window["T"])
    code = dataclasses.replace(plain, offset=window["offset"], signed=bool(window["signed"]))
    for name in ("gain", "step", "bias"):
        _check_tensor(tensors, name, torch.float32, optional=name == "bias")
    ceiling = int(values["ceiling"])
    if not code.minimum <= ceiling <= math.ceil(code.maximum):
        raise ArtifactError(f"graph.json: a neuron's ceiling {ceiling} is out of range")
    _check_copy(tensors, "digits", [code.bits, code.T, code.offset, int(code.signed), ceiling])
    return SpikingNeuron(code, tensors["gain"], tensors["step"], tensors.get("bias"), ceiling=ceiling)


def _synapse(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Synapse:
    geometry = _geometry(values["geometry"])
    low, high = (int(bound) for bound in values["word_range"])
    weight_bits = int(values["weight_bits"])
    known = FEWEST_WEIGHT_BITS <= weight_bits <= MOST_WEIGHT_BITS
    if not -_LARGEST_WORD <= low <= 0 <= high <= _LARGEST_WORD or not known:
        raise ArtifactError(f"graph.json: words {low}..{high} and {weight_bits} weight bits are out of range")
    _check_copy(tensors, "limits", [low, high])
    _check_tensor(tensors, "weight", torch.int8)
    if geometry is not None and tensors["weight"].shape[0] % geometry.groups:
        raise ArtifactError(f"graph.json: {geometry.groups} groups don't divide {tensors['weight'].shape[0]} channels")
    for name, dtype in (("bias", torch.int32), ("multiplier", torch.int32), ("unit", torch.float64)):
        _check_tensor(tensors, name, dtype, shape=tensors["weight"].shape[:1])
    _check_channel_bits(tensors)
    return Synapse(
        tensors["weight"],
        tensors["bias"],
        tensors["multiplier"],
        tensors["unit"],
        geometry=geometry,
        weight_bits=weight_bits,
        channel_bits=tensors.get("channel_bits"),
        word_range=(low, high),
        wide=bool(values["wide"]),
    )


def _check_channel_bits(tensors: Mapping[str, Tensor]) -> None:
    _check_tensor(tensors, "channel_bits", torch.uint8, shape=tensors["weight"].shape[:1], optional=True)
    widths = tensors.get("channel_bits", torch.tensor([FEWEST_WEIGHT_BITS]))
    if not bool(((widths >= FEWEST_WEIGHT_BITS) & (widths <= MOST_WEIGHT_BITS)).all()):
        raise ArtifactError("model.safetensors: 'channel_bits' holds widths that are out of range")


def _geometry(settings: Mapping[str, Any] | None) -> ConvGeometry | None:
    if settings is None:
        return None
    settings = {"transposed": False, "output_padding": (), **settings}  # saved networks of version 2 don't have them
    if set(settings) != {field.name for field in dataclasses.fields(ConvGeometry)}:
        raise ArtifactError(f"graph.json: unknown geometry settings {sorted(settings)}")
    lowest = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    sizes = {key: _sizes(settings[key], low) for key, low in lowest.items()}
    (groups,) = _sizes([settings["groups"]], 1)
    return ConvGeometry(**sizes, groups=groups, transposed=bool(settings["transposed"]))


def _product(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Product:
    if values["operation"] not in OPERATIONS:
        raise ArtifactError(f"graph.json: unknown product {values['operation']!r}")
    left, right, terms = (int(size) for size in values["largest"])
    if not 0 <= left <= _LARGEST_WORD or not 0 <= right <= _LARGEST_WORD or not 1 <= terms <= _MOST_TERMS:
        raise ArtifactError(f"graph.json: a product of words up to {left} and {right} is out of range")
    _check_copy(tensors, "largest", [left, right, terms])
    for name in ("multiplier", "unit"):
        _check_tensor(tensors, name, torch.float64)
    if not bool((tensors["multiplier"] >= 1).all()):
        raise ArtifactError("model.safetensors: a product's multiplier is below 1")
    return Product(
        values["operation"],
        tensors["unit"],
        tensors["multiplier"],
        (left, right, terms),
        geometry=_geometry(values["geometry"]),
        wide=bool(values["wide"]),
    )


def _table_transfer(tensors: Mapping[str, Tensor]) -> TableTransfer:
    _check_tensor(tensors, "gain", torch.float32)
    _check_tensor(tensors, "first", torch.int64, shape=torch.Size([]))
    _check_tensor(tensors, "table", torch.float32)
    table, first = tensors["table"], int(tensors["first"])
    if table.dim() != 1 or not 1 <= len(table) <= LARGEST_TABLE or abs(first) > LARGEST_TABLE:
        raise ArtifactError(f"graph.json: a transfer table of {list(table.shape)} from {first} is out of range")
    return TableTransfer(tensors["gain"], first, table)


def _check_tensor(
    tensors: Mapping[str, Tensor],
    name: str,
    dtype: torch.dtype,
    *,
    shape: torch.Size | None = None,
    optional: bool = False,
) -> None:
    if name not in tensors:
        if optional:
            return
        raise ArtifactError(f"model.safetensors: a tensor {name!r} is missing")
    tensor = tensors[name]
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ArtifactError(f"model.safetensors: {name!r} holds NaN or Inf")
    if tensor.dtype != dtype or (shape is not None and tensor.shape != shape):
        expected = f"{dtype}" + ("" if shape is None else f" {list(shape)}")
        raise ArtifactError(f"model.safetensors: {name!r} is {tensor.dtype} {list(tensor.shape)}, expected {expected}")


def _check_copy(tensors: Mapping[str, Tensor], name: str, expected: list[int]) -> None:
    """Settings that a state dict carries too must be the same in both files."""
    _check_tensor(tensors, name, torch.int64)
    if tensors[name].tolist() != expected:
        raise ArtifactError(f"model.safetensors: {name!r} is {tensors[name].tolist()}, graph.json says {expected}")


def _sizes(values: Any, low: int) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(isinstance(size, int) and low <= size <= _LARGEST_SIZE for size in sizes):
        raise ArtifactError(f"graph.json: sizes {list(sizes)} are out of range")
    return sizes
