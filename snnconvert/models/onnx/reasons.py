"""Why operators aren't supported, and what helps."""

from __future__ import annotations

import onnx.defs

from snnconvert.models.onnx.table import CLASSICAL

_DATA = "the size of its output depends on the data"
_TREES = "trees of decisions are no network of neurons"
_KERNELS = "support vector machines with kernels are no network of neurons: train a linear model or a network"
_BLOCKED = "com.microsoft.nchwc"
_REASONS: dict[tuple[str, str], str] = {
    ("", "NonMaxSuppression"): "how many boxes it keeps depends on the image: export the network without its "
    "post-processing and run non-maximum suppression on the outputs",
    ("", "NonZero"): _DATA,
    ("", "Unique"): _DATA,
    ("", "Compress"): _DATA,
    ("", "Scan"): "a loop has no fixed graph: export the network with its loops unrolled",
    ("", "SequenceMap"): "sequences are not supported",
    (CLASSICAL, "TreeEnsemble"): _TREES,
    (CLASSICAL, "TreeEnsembleClassifier"): _TREES,
    (CLASSICAL, "TreeEnsembleRegressor"): _TREES,
    (CLASSICAL, "SVMClassifier"): _KERNELS,
    (CLASSICAL, "SVMRegressor"): _KERNELS,
}


def reason_against(domain: str, name: str) -> str:
    """Why an operator isn't supported and what helps; empty if there is nothing to say."""
    if not domain and not onnx.defs.has(str(name)):  # names in damaged files may be bytes
        newest = onnx.defs.onnx_opset_version()
        return f"ONNX has no such operator up to opset {newest}: perhaps the exporter could not convert it"
    if domain == _BLOCKED:
        return "the file is optimized for one processor: save it at onnxruntime's level 'extended' or below"
    return _REASONS.get((domain, name), "")
