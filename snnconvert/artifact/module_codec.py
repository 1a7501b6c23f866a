"""Neurons and synapses as JSON settings plus tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from snnconvert.errors import ArtifactError
from snnconvert.neurons.code import PackedCode
from snnconvert.neurons.current import IntegerScale, PoolGeometry, SumPool, ToReal
from snnconvert.neurons.packed import PackedNeuron
from snnconvert.neurons.synapse import ConvGeometry, Synapse


def module_to_json(module: nn.Module) -> dict[str, Any]:
    """Kind and settings of one module of a spiking graph; its tensors are saved apart.

    Raises:
        ArtifactError: if the module isn't one of this package.
    """
    if isinstance(module, PackedNeuron):
        return {"kind": "packed_neuron", "code": dataclasses.asdict(module.code)}
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
    raise ArtifactError(f"{type(module).__name__} can't be saved: it is no neuron or synapse of this package")


def module_from_json(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Rebuilds a module from its settings and tensors.

    Raises:
        ArtifactError: if the kind is unknown.
        KeyError: if a tensor or a setting is missing.
    """
    values = dict(settings)
    kind = values.pop("kind")
    if kind == "packed_neuron":
        code = PackedCode(**values["code"])
        return PackedNeuron(code, tensors["gain"], tensors["step"], tensors.get("bias"))
    if kind == "synapse":
        return _synapse(values, tensors)
    if kind == "integer_scale":
        return IntegerScale(tensors["multiplier"], wide=bool(values["wide"]))
    if kind == "sum_pool":
        sizes = {key: tuple(values["geometry"][key]) for key in ("kernel", "stride", "padding", "dims")}
        geometry = PoolGeometry(**sizes, keepdim=bool(values["geometry"]["keepdim"]))
        return SumPool(tensors["multiplier"], geometry, wide=bool(values["wide"]))
    if kind == "to_real":
        return ToReal(tensors["unit"])
    raise ArtifactError(f"graph.json: unknown module kind {kind!r}")


def _synapse(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Synapse:
    geometry = values["geometry"]
    if geometry is not None:
        sizes = {key: tuple(geometry[key]) for key in ("stride", "padding", "dilation")}
        geometry = ConvGeometry(**sizes, groups=int(geometry["groups"]))
    low, high = values["word_range"]
    return Synapse(
        tensors["weight"],
        tensors["bias"],
        tensors["multiplier"],
        tensors["unit"],
        geometry=geometry,
        weight_bits=int(values["weight_bits"]),
        word_range=(int(low), int(high)),
        wide=bool(values["wide"]),
    )
