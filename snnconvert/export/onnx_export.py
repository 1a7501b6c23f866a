"""Writing a packed network as an integer ONNX model that stock runtimes execute."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from torch import fx

from snnconvert.artifact.atomic import replaced_file
from snnconvert.engines.integer.dialect import DIALECTS
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.lowering import StoredWords
from snnconvert.engines.integer.runtime import RuntimeOptions
from snnconvert.errors import ConfigurationError, EngineError
from snnconvert.spiking_model import SpikingModel
from snnconvert.version import __version__

SCHEMA = "snnconvert.onnx/1"
METADATA_KEY = "snnconvert"
LARGEST_FILE = (1 << 31) - 1


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output of a model.

    Attributes:
        name: its name.
        dtype: its type, such as "float32".
        shape: sizes; a name where any size will do.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxWords:
    """An output that holds what a layer of neurons fires: the word is the byte less the zero point.

    Logarithmic words are values, float32, with zero point 0.

    Attributes:
        layer: the layer's name.
        output: the output's name.
        zero_point: of the bytes.
    """

    layer: str
    output: str
    zero_point: int


@dataclass(frozen=True)
class OnnxExport:
    """What was written.

    Attributes:
        dialect: the runtime it is fastest in.
        opset: of ONNX's own operators.
        bytes: size of the file.
        inputs: in the order of the call.
        outputs: of the network, without words.
        words: outputs of the layers of neurons, in the order of the graph; empty if they weren't asked for.
    """

    dialect: str
    opset: int
    bytes: int
    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    words: tuple[OnnxWords, ...] = ()


def export_onnx(
    snn: SpikingModel,
    path: str | Path,
    *,
    dialect: str = "onnxruntime",
    batch: int | None = None,
    words: bool = False,
    force: bool = False,
) -> OnnxExport:
    """Writes a packed network as an ONNX model with the same integers; it needs nothing of this package to run.

    Words are bytes between QuantizeLinear and DequantizeLinear, weights int8, biases int32. Every runtime that knows
    ONNX's operators runs the network; the dialect says which of onnxruntime and OpenVINO computes the very same words
    in 8-bit kernels. Beside producer and version the model's metadata holds, as JSON under ``snnconvert``, weight bits,
    spike bits and time steps of every layer, the preprocessing where the network knows it, and the layers whose words
    are outputs.

    Args:
        snn: the network.
        path: the file, usually .onnx.
        dialect: "onnxruntime" or "openvino".
        batch: a fixed batch size; None: any.
        words: whether the bytes of every layer of neurons are outputs, too.
        force: replace a file that exists.

    Raises:
        ConfigurationError: on an unknown dialect or a batch size out of range.
        EngineError: naming the layer, if neurons aren't packed, a sum might overflow 32 bits, or an analog operator
            has no ONNX form; or if the model is larger than ONNX's 2 GiB.
        InputError: if the file exists or can't be written.
    """
    if dialect not in DIALECTS:
        raise ConfigurationError(f"dialect must be one of {', '.join(DIALECTS)}, got {dialect!r}")
    RuntimeOptions(batch=batch)
    with replaced_file(Path(path), force=force) as file:
        built = integer_model(_on_cpu(snn), snn.signature, DIALECTS[dialect], batch=batch, observed=words)
        outputs = [item.name for item in built.model.graph.output]
        observed = _words(built.words, outputs)
        _describe(built.model, snn, dialect, observed)
        serialized = _serialized(built.model)
        file.write_bytes(serialized)
    return OnnxExport(
        dialect=dialect,
        opset=next(item.version for item in built.model.opset_import if item.domain in ("", "ai.onnx")),
        bytes=len(serialized),
        inputs=tuple(map(_tensor, built.model.graph.input)),
        outputs=tuple(map(_tensor, built.model.graph.output[: len(outputs) - len(observed)])),
        words=observed,
    )


def _on_cpu(snn: SpikingModel) -> fx.GraphModule:
    moved = any(tensor.device.type != "cpu" for tensor in snn.network.state_dict().values())
    return copy.deepcopy(snn.network).cpu() if moved else snn.network


def _words(stored: Sequence[StoredWords], outputs: Sequence[str]) -> tuple[OnnxWords, ...]:
    names = outputs[len(outputs) - len(stored) :]
    return tuple(OnnxWords(item.layer, name, item.zero_point) for item, name in zip(stored, names, strict=True))


def _describe(model: onnx.ModelProto, snn: SpikingModel, dialect: str, words: Sequence[OnnxWords]) -> None:
    """Producer, version and metadata."""
    model.producer_version = __version__
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "version": __version__,
        "dialect": dialect,
        "layers": [
            {"name": item.name, "weight_bits": item.weight_bits, "spike_bits": item.spike_bits, "T": item.T}
            for item in snn.report.layers
        ],
        "preprocessing": dict(snn.report.preprocessing) or None,
        "words": [asdict(item) for item in words],
    }
    known = {item.key: item.value for item in model.metadata_props}
    helper.set_model_props(model, {**known, METADATA_KEY: json.dumps(about, allow_nan=False)})


def _serialized(model: onnx.ModelProto) -> bytes:
    size = model.ByteSize()
    if size > LARGEST_FILE:
        raise EngineError(f"the model takes {size / 1e9:.1f} GB, more than the 2 GiB of one ONNX file")
    serialized: bytes = model.SerializeToString()
    return serialized


def _tensor(value: onnx.ValueInfoProto) -> OnnxTensor:
    kind = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type != TensorProto.UNDEFINED else "unknown"
    sizes = tuple(item.dim_param or item.dim_value for item in kind.shape.dim)
    return OnnxTensor(value.name, str(dtype), sizes)
