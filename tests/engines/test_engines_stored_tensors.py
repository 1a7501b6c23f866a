"""The reader of the simulator reads every form in which the package stores tensors."""

import json

import pytest
import torch
from safetensors.torch import save_file
from stored_tensors import read_tensors

from snnconvert.artifact.tensor_forms import to_stored


def of_widths(widths):
    """Weights [64, 25] whose channels have these widths in turn, with their extremes."""
    bits = torch.tensor(widths).repeat(64)[:64]
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weight = torch.minimum(torch.maximum(torch.randint(-128, 128, (25, 64)), low), high).T.to(torch.int8).contiguous()
    return torch.where((bits == 1)[:, None], torch.where(weight < 0, -1, 1), weight).to(torch.int8)


UNITS = torch.arange(1, 512, dtype=torch.float64) * 0.1
TENSORS = {
    "ones": (of_widths([1]), {"shape": [64, 25], "bits": 1}),
    "three bits": (of_widths([3]), {"shape": [64, 25], "bits": 3}),
    "seven bits": (of_widths([7]), {"shape": [64, 25], "bits": 7}),
    "mixed": (of_widths([1, 2, 3, 4, 5, 6, 7, 8]), {"shape": [64, 25], "bits": None}),
    "integers": (torch.arange(-300, 300, dtype=torch.int32).view(30, 20), {"dtype": "int32"}),
    "floats": (torch.rand(400).double(), {"dtype": "float64"}),
    "a table": (torch.rand(40, dtype=torch.float64).repeat(30), {"dtype": "float64", "shape": [1200]}),
    "a constant": (torch.full((1, 900), -0.0), {"dtype": "float32", "shape": [1, 900]}),
    "two values": (torch.tensor([0.1, 0.3]).repeat(500), {"dtype": "float32", "shape": [1000]}),
    "units": (torch.arange(1.0, 301).double() * 2.0**-9, {"dtype": "float64"}),
    "units of a step": (UNITS, {"dtype": "float64", "scale": UNITS[0].item().hex()}),
    "units that repeat": (
        UNITS[256:320].repeat(20),
        {"dtype": "float64", "scale": UNITS[0].item().hex(), "shape": [1280]},
    ),
    "as it is": (torch.rand(300, dtype=torch.float64), None),
}


@pytest.mark.parametrize("name", TENSORS)
def test_every_form(name, tmp_path):
    tensor, form = TENSORS[name]
    stored, forms = to_stored({"m.t": tensor})
    assert forms.get("m.t") == form
    save_file(stored, tmp_path / "model.safetensors")
    (tmp_path / "graph.json").write_text(json.dumps({"tensors": forms}))
    read = read_tensors(tmp_path)["m.t"]
    assert (read.dtype, read.shape) == (tensor.numpy().dtype, tuple(tensor.shape))
    assert read.tobytes() == tensor.numpy().tobytes()
