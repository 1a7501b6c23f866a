"""Saving and loading converted networks.

config.json holds settings, plan and checksums, graph.json nodes, modules and the forms of tensors
(:mod:`snnconvert.artifact.tensor_forms`), model.safetensors the tensors and report.json the report.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, fx

from snnconvert.artifact.atomic import replaced_folder
from snnconvert.artifact.checksum import file_checksum
from snnconvert.artifact.graph_codec import graph_from_json, graph_tensors, graph_to_json
from snnconvert.artifact.tensor_forms import from_stored, to_stored
from snnconvert.config import ConversionConfig
from snnconvert.convert.plan import AnalogPlan, Plan, Site, SynapsePlan
from snnconvert.convert.signature import Signature
from snnconvert.errors import ArtifactError, ConfigurationError, first_line
from snnconvert.report.report import Report

ARTIFACT_VERSION = 4
_PLAIN_VERSION = 3  # every tensor as it is: graph.json has no ``tensors``
_ONE_TENSOR_VERSION = 2  # one tensor of a fixed shape in, one tensor out: ``input_shape`` in place of ``signature``
_VERSIONS = (_ONE_TENSOR_VERSION, _PLAIN_VERSION, ARTIFACT_VERSION)
_CONFIG, _GRAPH, _TENSORS, _REPORT = "config.json", "graph.json", "model.safetensors", "report.json"


@dataclass(frozen=True)
class Artifact:
    """What a saved folder holds: the spiking graph and all that was said about it."""

    network: fx.GraphModule
    plan: Plan
    config: ConversionConfig
    report: Report
    signature: Signature
    output_dtype: torch.dtype


def save_artifact(artifact: Artifact, directory: Path, *, force: bool = False) -> None:
    """Writes config.json, graph.json, model.safetensors and report.json to a folder, whole or not at all.

    Tensors are stored in their smallest form, weights packed to the bits they have.

    Raises:
        InputError: if the folder can't be written, or isn't empty and ``force`` isn't given.
        ArtifactError: if the graph holds an operator that can't be saved, naming its layer.
    """
    with replaced_folder(directory, force=force) as folder:
        stored, forms = to_stored(graph_tensors(artifact.network))
        _write_json(folder / _GRAPH, {**graph_to_json(artifact.network), "tensors": forms})
        save_file(stored, str(folder / _TENSORS), metadata={"format": "pt"})
        (folder / _TENSORS).chmod(0o644)
        artifact.report.to_json(folder / _REPORT)
        settings = {
            "version": ARTIFACT_VERSION,
            "conversion": artifact.config.to_dict(),
            "signature": artifact.signature.to_dict(),
            "output_dtype": str(artifact.output_dtype).removeprefix("torch."),
            "plan": dataclasses.asdict(artifact.plan),
        }
        checksums = {name: file_checksum(folder / name) for name in (_GRAPH, _TENSORS, _REPORT)}
        _write_json(folder / _CONFIG, {**settings, "sha256": {**checksums, _CONFIG: _settings_sha256(settings)}})


def load_artifact(folder: Path) -> Artifact:
    """Reads what :func:`save_artifact` wrote.

    Nothing in the folder is executed or unpickled: operators come from an allow-list.

    Raises:
        ArtifactError: if a file is missing, damaged (by its checksum), or of another version.
    """
    config = _read_json(folder / _CONFIG)
    if config.get("version") not in _VERSIONS:
        raise ArtifactError(f"{folder / _CONFIG}: version {config.get('version')!r} is not {ARTIFACT_VERSION}")
    try:
        _check_sums(folder, config)
        signature = _signature(config)
        graph = _read_json(folder / _GRAPH)
        tensors = from_stored(_read_tensors(folder / _TENSORS), graph.get("tensors", {}))
        return Artifact(
            graph_from_json(graph, tensors, signature),
            _plan(config["plan"]),
            ConversionConfig.from_dict(config["conversion"]),
            Report.from_dict(_read_json(folder / _REPORT)),
            signature,
            _dtype(config["output_dtype"]),
        )
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}" if str(folder) not in str(error) else str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ConfigurationError) as error:
        raise ArtifactError(f"{folder / _CONFIG} is damaged: {type(error).__name__}: {first_line(error)}") from None


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON: {first_line(error)}") from None
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} holds {type(data).__name__}, not an object")
    return data


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged: {first_line(error)}") from None


def _check_sums(folder: Path, config: dict[str, Any]) -> None:
    sums = config["sha256"]
    if not isinstance(sums, dict):
        raise ArtifactError(f"{folder / _CONFIG} is damaged: it holds no checksums")
    settings = {key: value for key, value in config.items() if key != "sha256"}
    if _settings_sha256(settings) != sums.get(_CONFIG):
        raise ArtifactError(f"{folder / _CONFIG} is damaged: its checksum differs from its settings")
    for name in (_GRAPH, _TENSORS, _REPORT):
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder / name} is missing")
        if file_checksum(folder / name) != sums.get(name):
            raise ArtifactError(f"{folder / name} is damaged: its checksum differs from the one in {_CONFIG}")


def _settings_sha256(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _signature(config: dict[str, Any]) -> Signature:
    if config["version"] == _ONE_TENSOR_VERSION:
        return Signature.of_one_tensor([int(size) for size in config["input_shape"]])
    return Signature.from_dict(config["signature"])


def _plan(data: dict[str, Any]) -> Plan:
    return Plan(
        sites=tuple(Site(**item) for item in data["sites"]),
        synapses=tuple(SynapsePlan(**item) for item in data["synapses"]),
        analog=tuple(AnalogPlan(**item) for item in data["analog"]),
        notes=tuple(data.get("notes", ())),  # networks saved before have none
    )


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ArtifactError(f"{_CONFIG}: unknown output type {name!r}")
    return found
