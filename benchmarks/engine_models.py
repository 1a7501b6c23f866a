"""The ANN in the runtimes that the integer engines use: as float32, and in the runtimes' own plain 8 bits."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from snnconvert.convert.quiet import quiet_export

Run = Callable[[Tensor], Any]


@dataclass(frozen=True)
class AnnFiles:
    """An ANN as ONNX files.

    Attributes:
        float32: as exported by torch.
        int8: by onnxruntime's static quantization: QDQ, activations u8, weights s8 per channel, smallest and largest
            values of the calibration images; None where it can't.
    """

    float32: Path
    int8: Path | None


def write_ann(ann: nn.Module, images: Sequence[Tensor], folder: Path) -> AnnFiles:
    """Exports an ANN with a dynamic batch, and quantizes it.

    Args:
        ann: the network.
        images: batches to calibrate with.
        folder: where the files go.
    """
    plain, prepared, quantized = (folder / f"{name}.onnx" for name in ("float32", "prepared", "int8"))
    with quiet_export(), contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            ann, (images[0][:2],), dynamo=True, dynamic_shapes=({0: torch.export.Dim("N")},), verbose=False
        )
        assert program is not None
        program.save(str(plain))
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        name = onnxruntime.InferenceSession(str(plain), providers=["CPUExecutionProvider"]).get_inputs()[0].name
        try:
            quantize_static(
                str(prepared), str(quantized), _Reader(name, images), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
        except ValueError as error:
            warnings.warn(f"onnxruntime can't quantize the ANN: {error}", stacklevel=2)
            return AnnFiles(plain, None)
    return AnnFiles(plain, quantized)


def onnxruntime_run(path: Path, threads: int) -> Run:
    """A file in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.numpy()})


def openvino_run(path: Path, threads: int, precision: str = "f32") -> Run:
    """A file in OpenVINO, with float parts in ``precision``."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": threads,
    }
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda images: request.infer([images.numpy()], share_inputs=True)


def openvino_survives(path: Path) -> bool:
    """Whether OpenVINO can compile a file, tried in a process of its own: some files of other makers end it."""
    script = "import sys, openvino; openvino.Core().compile_model(sys.argv[1], 'CPU')"
    return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, check=False).returncode == 0


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, images: Sequence[Tensor]) -> None:
        self._batches = iter([{name: batch.numpy()} for batch in images])

    def get_next(self) -> dict[str, Any] | None:
        """The next batch."""
        return next(self._batches, None)
