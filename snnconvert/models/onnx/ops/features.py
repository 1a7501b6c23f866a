"""Arithmetic on features, and class labels: operators of ai.onnx.ml beside the models themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from snnconvert.models.onnx.call import Call
from snnconvert.models.onnx.table import CLASSICAL, onnx_op


def _row(call: Call, name: str, default: float, like: Tensor) -> Tensor:
    return torch.tensor(call.floats(name) or [default], dtype=like.dtype, device=like.device)


def _real(call: Call) -> Tensor:
    x = call.tensor(0)
    return x if x.is_floating_point() else x.to(torch.float32)


@onnx_op("Scaler", domain=CLASSICAL)
def scaler(call: Call) -> Tensor:
    """(x − offset)·scale per feature."""
    x = _real(call)
    return (x - _row(call, "offset", 0.0, x)) * _row(call, "scale", 1.0, x)


@onnx_op("Normalizer", domain=CLASSICAL)
def normalizer(call: Call) -> Tensor:
    """x/‖x‖ per sample, by the sum of magnitudes, their squares' root, or the largest value; 0 stays 0."""
    x, name = _real(call), call.text("norm", "MAX")
    if name == "MAX":
        largest = x.amax(-1, keepdim=True)
        return x / torch.where(largest == 0, 1.0, largest)
    if name not in ("L1", "L2"):
        raise call.node.malformed(f"the norm {name!r} is unknown")
    return torch.nn.functional.normalize(x, float(name[1]), -1, 1e-30)


@onnx_op("Binarizer", domain=CLASSICAL)
def binarizer(call: Call) -> Tensor:
    """1 where x > threshold, else 0."""
    x = call.tensor(0)
    return (x > call.real("threshold", 0.0)).to(x.dtype)


@onnx_op("Imputer", domain=CLASSICAL)
def imputer(call: Call) -> Tensor:
    """X with another value, or one a feature, in place of a missing one, such as not a number."""
    x = call.tensor(0)
    if x.is_floating_point():
        missing = call.real("replaced_value_float", 0.0)
        hit = torch.isnan(x) if missing != missing else x == missing
        return torch.where(hit, _row(call, "imputed_value_floats", 0.0, x), x)
    values = torch.tensor(call.ints("imputed_value_int64s") or [0], dtype=x.dtype, device=x.device)
    return torch.where(x == call.integer("replaced_value_int64", 0), values, x)


@onnx_op("FeatureVectorizer", domain=CLASSICAL)
def feature_vectorizer(call: Call) -> Tensor:
    """Each input's features, one after the other."""
    return torch.cat([x.to(torch.float32) for x in call.tensors()], -1)


@onnx_op("ArrayFeatureExtractor", domain=CLASSICAL)
def array_feature_extractor(call: Call) -> Tensor:
    """x[..., indices]; of a vector as one row."""
    x, indices = call.tensor(0), call.tensor(1).reshape(-1)
    picked = x.index_select(-1, indices.to(torch.int64))
    return picked.unsqueeze(0) if x.dim() == 1 else picked


@onnx_op("ZipMap", domain=CLASSICAL)
def zip_map(call: Call) -> Tensor:
    """The tensor [N, classes] that the file splits into one dictionary by class a sample."""
    return call.tensor(0)


@onnx_op("LinearClassifier", domain=CLASSICAL)
def labels_that_are_texts(call: Call) -> Tensor:
    """The labels of a classifier whose classes are texts, where something reads them."""
    raise call.node.unsupported("its labels are texts: cut the network at its scores, its second output")
