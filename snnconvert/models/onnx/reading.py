"""A file becomes a ModelProto: nothing is executed, and no other file is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from snnconvert.errors import InputError
from snnconvert.models.onnx.limits import MOST_FILE_BYTES

OLDEST_OPSET = 7


def read_model(path: Path) -> ModelProto:
    """Parses a .onnx file, without its external data.

    Raises:
        InputError: if the file is missing, empty, too large or not an ONNX model.
    """
    model = ModelProto()
    try:
        model.ParseFromString(_content(path))
    except DecodeError:
        raise InputError(f"{path} is not an ONNX model, or is damaged: export it again") from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise InputError(f"{path} holds no ONNX graph: export it again")
    return model


def opsets_of(model: ModelProto, path: Path) -> dict[str, int]:
    """Version by domain; ONNX's own domain is the empty string.

    Raises:
        InputError: if there is none for ONNX's own domain, or one older than opset 7.
    """
    opsets = {_plain(item.domain): int(item.version) for item in model.opset_import}
    version = opsets.get("", 0 if not opsets else OLDEST_OPSET)
    if version < OLDEST_OPSET:
        raise InputError(
            f"{path} is of opset {version or 'unknown'}: opset {OLDEST_OPSET} is the oldest that is read, "
            "convert it with onnx.version_converter or export it again"
        )
    return opsets


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path} is not a regular file: give the path of a .onnx file")
            if status.st_size > MOST_FILE_BYTES:
                raise InputError(
                    f"{path} has {status.st_size} bytes, more than a protocol buffer can hold: "
                    "save its weights as external data"
                )
            content = file.read(MOST_FILE_BYTES)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}: check the path") from None
    if not content:
        raise InputError(f"{path} is empty: export or copy it again")
    return content
