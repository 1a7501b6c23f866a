"""Models on disk as engines load them: the graph in one file, its weights in another beside it.

Runtimes map such a file into memory and lay weights out for their kernels from there; of weights inside the graph they
hold a copy of their own.
"""

from __future__ import annotations

from pathlib import Path

import onnx

_GRAPH, _WEIGHTS = "model.onnx", "weights.bin"
_SMALLEST = 1024


def write_model(model: onnx.ModelProto, folder: Path) -> Path:
    """Writes a model into a folder that exists; the model is left as it is.

    Args:
        model: of any size, its weights inside.
        folder: where nothing of these names is yet.

    Returns:
        The graph's file.

    Raises:
        OSError: if there is no room.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    path = folder / _GRAPH
    onnx.save_model(
        copied, str(path), save_as_external_data=True, all_tensors_to_one_file=True, location=_WEIGHTS,
        size_threshold=_SMALLEST,
    )  # fmt: skip
    return path


def graph_file(folder: Path) -> Path:
    """Where :func:`write_model` puts the graph."""
    return folder / _GRAPH
