"""Trained networks from elsewhere, where they are at hand."""

import os
from pathlib import Path

import pytest
import torch
from onnx_graphs import largest_difference, outputs_of, reference_outputs
from torch import Tensor

from snnconvert.convert.capture import capture
from snnconvert.models.onnx import load_onnx

pytest.importorskip("onnxruntime")
DATA = Path(os.environ.get("SNNCONVERT_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
FILES = sorted((DATA / "detection").glob("*.onnx"))
TOLERANCE = 2e-5


def images(count: int, path: Path) -> Tensor:
    sizes = load_onnx(path).inputs[0].shape[1:]
    return torch.rand(count, *sizes, generator=torch.Generator().manual_seed(0))


@pytest.mark.skipif(not FILES, reason=f"no detection networks in {DATA}: set SNNCONVERT_DATA")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_detectors_equal_onnxruntime_sample_by_sample(path):
    x = images(3, path)
    expected = [reference_outputs(path, sample) for sample in x.split(1)]
    for index, actual in enumerate(outputs_of(path, x)):
        assert largest_difference(actual, torch.cat([sample[index] for sample in expected])) <= TOLERANCE


@pytest.mark.skipif(not FILES, reason=f"no detection networks in {DATA}: set SNNCONVERT_DATA")
def test_detectors_of_one_output_are_captured():
    single = [path for path in FILES if len(load_onnx(path).outputs) == 1]
    for path in single:
        x = images(3, path)
        graph = capture(load_onnx(path).module, x[:2])
        assert largest_difference(graph(x), outputs_of(path, x)[0]) <= TOLERANCE
