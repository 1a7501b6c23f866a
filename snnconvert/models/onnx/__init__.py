"""ONNX files become torch modules: `load_onnx`."""

from snnconvert.models.onnx.declarations import OnnxInput
from snnconvert.models.onnx.model import OnnxModel, load_onnx

__all__ = ["OnnxInput", "OnnxModel", "load_onnx"]
