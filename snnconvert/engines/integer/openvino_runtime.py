"""Integer models in OpenVINO, on the CPU."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnconvert.engines.integer.function_test import computes_closely
from snnconvert.engines.integer.runtime import FloatOperation, RuntimeOptions
from snnconvert.engines.integer.self_test import is_exact
from snnconvert.errors import EngineError, first_line

_COMPUTES = frozenset({"Convolution", "FullyConnected", "MatMul", "Deconvolution", "GroupConvolution", "Eltwise"})
_OTHERS = frozenset({"Softmax", "MVN", "NormalizePlanar", "Reduce", "Interpolate", "Pooling", "RMS", "Subgraph"})
_IN_FLOAT32 = {"LP_TRANSFORMS_MODE": "NO"}
_BYTES = frozenset({"u8", "i8", "i32", "i64"})


def openvino_package() -> Any:
    """The openvino package.

    Raises:
        EngineError: naming the extra, if it isn't installed.
    """
    try:
        import openvino
    except ImportError:
        raise EngineError("OpenVINO isn't installed: pip install 'snnconvert[openvino]'") from None
    return openvino


@cache
def computes_functions() -> bool:
    """Whether OpenVINO's GELU, SiLU, … are close enough on this CPU to stand for tables of words."""
    try:
        return computes_closely(lambda probe: _Probe(_compiled(probe, _settings(RuntimeOptions(threads=1)))))
    except EngineError:  # a version that lacks one of the operators
        return False


class OpenVino:
    """A network compiled by OpenVINO."""

    def __init__(self, model: Path, options: RuntimeOptions, folder: Path | None = None) -> None:
        """Loads a model.

        Args:
            model: an ONNX file.
            options: threads, batch and memory.
            folder: where OpenVINO keeps what it has compiled, or None.

        Raises:
            EngineError: if OpenVINO isn't installed, can't load the model, or this CPU's kernels aren't exact.
        """
        settings = _settings(options)
        self.notes: tuple[str, ...] = ()
        if not is_exact(lambda probe: _Probe(_compiled(probe, settings))):
            settings |= _IN_FLOAT32
            if not is_exact(lambda probe: _Probe(_compiled(probe, settings))):
                raise EngineError("OpenVINO's kernels aren't exact on this CPU: choose engine onnxruntime or torch")
            self.notes = ("this CPU's 8-bit products saturate: OpenVINO runs in float32, exact but slower",)
        if folder is not None:
            settings["CACHE_DIR"] = str(folder)
        try:
            self._compiled = _compiled(model, settings)
        except EngineError as error:
            raise EngineError(f"{error}; choose engine onnxruntime or torch") from error
        self._requests = threading.local()

    def run(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """The outputs."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        arrays = [leaf.detach().cpu().contiguous().numpy() for leaf in leaves]
        found = self._requests.own.infer(arrays, share_inputs=True)
        return [torch.from_numpy(found[index].copy()) for index in range(len(self._compiled.outputs))]

    def float_operations(self) -> tuple[FloatOperation, ...]:
        """The nodes of the executed graph that compute in floating point."""
        found: list[FloatOperation] = []
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            told = node.get_rt_info()
            kind, precision = (str(told[key].astype(str)) for key in ("layerType", "runtimePrecision"))
            if kind in _COMPUTES | _OTHERS and precision not in _BYTES:
                found.append(FloatOperation(kind, node.get_friendly_name().split("/")[0]))
        return tuple(found)


class _Probe:
    """OpenVINO with the interface of an onnxruntime session, for the self-test."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def run(self, _: None, feeds: dict[str, Any]) -> Sequence[Any]:
        """The outputs."""
        found = self._compiled(list(feeds.values()))
        return [found[0]]


def _settings(options: RuntimeOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # without it, float parts run in bf16 where the CPU can
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return settings if options.threads is None else {**settings, "INFERENCE_NUM_THREADS": options.threads}


@cache
def _core() -> Any:
    """One for the process.

    Each gives its thread an alternate signal stack and in the end puts back the one before, which may be that of a core
    that has ended: the next signal that Python handles would then find no memory.
    """
    return openvino_package().Core()


def _compiled(model: bytes | Path, settings: Mapping[str, Any]) -> Any:
    core, source = _core(), io.BytesIO(model) if isinstance(model, bytes) else model
    try:
        return core.compile_model(core.read_model(source), "CPU", settings)
    except Exception as error:  # pybind11 maps its own exceptions to plain ones
        raise EngineError(f"OpenVINO can't load the network: {first_line(error)}") from error
