"""Spike streams: a converted network's spikes, integers and golden results as one file for a testbench."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnconvert.artifact.atomic import replaced_file
from snnconvert.engines.assembly import Assembly
from snnconvert.engines.schedules import run_layers
from snnconvert.engines.timeline import Latency, infer_timeline
from snnconvert.errors import InputError
from snnconvert.export.one_tensor import one_tensor
from snnconvert.export.spike_arrays import as_array
from snnconvert.export.spike_manifest import RULES, ManifestNodes
from snnconvert.export.spike_tap import Seen, Tap
from snnconvert.spiking_model import SpikingModel
from snnconvert.version import __version__

SCHEMA = "snnconvert.spike-streams/1"
Array = NDArray[Any]
Json = dict[str, Any]


def export_spike_streams(
    snn: SpikingModel, images: Tensor, path: str | Path, *, latency: Latency = "streaming", force: bool = False
) -> None:
    """Writes one .npz from which a testbench replays these images without this package; nothing is pickled.

    ``manifest`` (JSON as uint8) lists the nodes of the spiking graph in order, with kind, settings, timing and
    arrays, and the rules that connect them. Arrays are called ``<node>.<array>``: spikes [T, N, ...] of every
    neuron layer; its gain and bias as float32 and as m·2^e; the integer threshold of every level of packed
    neurons; int8 weights, int32 biases and multipliers of every synapse; the integer currents that synapses
    and neurons see in a window; ``input`` and ``logits``. From the spikes that encode the input to the output's
    current all is integer arithmetic. Neurons that can't be replayed (they read analog nodes, or spikes whose
    worth is no integer) say why, and their spikes are to be taken from the file; those whose potentials are
    rounded say how.

    Args:
        snn: the converted network.
        images: ``[N, *input_shape]``, on the network's device.
        path: the file, .npz; folders that are missing are made.
        latency: see :meth:`~snnconvert.spiking_model.SpikingModel.simulate`.
        force: replace a file that exists.

    Raises:
        InputError: if there are no images, their shape is wrong, or the file exists or can't be written.
        ConfigurationError: on an unknown latency model.
    """
    target = Path(path)
    _check(snn, images, target, force=force)
    timeline = infer_timeline(snn.network, latency)
    seen = {node.name: Seen() for node in snn.network.graph.nodes}
    assembly = Assembly(snn.network, timeline, None)
    for name, cell in assembly.cells.items():
        sources = [seen[source] for source in assembly.sources[name]]
        assembly.cells[name] = Tap(cell, timeline.courses[name], seen[name], sources)
    (entry,) = [node.name for node in snn.network.graph.nodes if node.op == "placeholder"]
    seen[entry] = Seen(total=images.float())
    with torch.no_grad():
        answers = run_layers(snn.network, timeline, assembly, [(images.float(),)])
    answer = answers[-1] if isinstance(answers[-1], Tensor) else answers[-1][0]
    arrays = {"input": as_array(images.float()), "logits": as_array(answer)}
    nodes = ManifestNodes(snn.network, timeline.courses, seen, arrays).described()
    manifest = {
        "schema": SCHEMA,
        "producer": f"snnconvert {__version__}",
        "images": len(images),
        "latency": latency,
        "ticks": timeline.ticks,
        "rules": RULES,
        "nodes": nodes,
        "analog": [node["name"] for node in nodes if node["kind"] == "analog"],
        "stimuli": [node["name"] for node in nodes if node.get("replay") == "stimulus"],
    }
    text = json.dumps(manifest, allow_nan=False, indent=1)
    _write(target, {"manifest": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}, force=force)


def _check(snn: SpikingModel, images: Tensor, target: Path, *, force: bool) -> None:
    shape = one_tensor(snn, "a spike stream")
    if images.dim() == 0 or len(images) == 0:
        raise InputError("there are no images to export: give at least one")
    if tuple(images.shape[1:]) != shape or not images.is_floating_point():
        expected = ", ".join(map(str, shape))
        raise InputError(f"expected floating-point images [N, {expected}], got {images.dtype} {list(images.shape)}")
    if target.suffix != ".npz":
        raise InputError(f"{target}: spike streams are .npz files")
    if target.is_dir():
        raise InputError(f"{target} is a folder: choose another file")
    if target.exists() and not force:
        raise InputError(f"{target} exists: choose another file, or replace it with force=True")


def _write(target: Path, arrays: Mapping[str, Array], *, force: bool) -> None:
    """Writes the file whole or not at all; the same arrays give the same bytes."""
    with replaced_file(target, force=force) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
