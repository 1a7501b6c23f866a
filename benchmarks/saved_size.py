"""Size of saved networks beside the ANN's float32 weights: ``python -m benchmarks.saved_size``.

Weights are random and nothing is downloaded. Networks are saved, loaded and compared buffer by buffer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import snnconvert
from benchmarks.random_networks import RandomImages, build_network, side_of
from benchmarks.real_data import emit_json, emit_table
from snnconvert.artifact.graph_codec import graph_tensors
from snnconvert.conversion import convert_whole
from snnconvert.spiking_model import SpikingModel

TARGETS = {8: 0.27, 4: 0.15}
_MODELS = ("resnet18", "resnet50", "mobilenetv2_100", "vit_small_patch16_224")
_CALIBRATION_IMAGES = 8


def main(arguments: list[str] | None = None) -> None:
    """Converts every model at every width, saves it, and weighs the folder."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = [_row(name, bits) for name in options.models for bits in options.weight_bits]
    header = ("model", "weight bits", "folder / float32", "its bits alone", "save s", "load s", "target")
    emit_table(header, [_cells(row) for row in rows])
    emit_json({"benchmark": "saved_size", "threads": options.threads, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.saved_size", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(_MODELS), help="of timm or torchvision, or cifar_resnet20")
    parser.add_argument("--weight-bits", type=int, nargs="+", choices=range(1, 9), default=[8, 4])
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _row(name: str, weight_bits: int) -> dict[str, Any]:
    ann = build_network(name)
    images = RandomImages(_CALIBRATION_IMAGES, _CALIBRATION_IMAGES, side_of(name), seed=2)
    config = snnconvert.ConversionConfig(bits=4, T=1, weight_bits=weight_bits)
    network = convert_whole(ann, images, config, progress=False)
    floats = _float_bytes(ann)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "net"
        start = time.perf_counter()
        network.save(folder)
        saved = time.perf_counter()
        loaded = snnconvert.load(folder)
        seconds = {"save_s": saved - start, "load_s": time.perf_counter() - saved}
        _check_same(network, loaded)
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    ratio, alone = sum(files.values()) / floats, _weight_bits(network) / 8 / floats
    return {"model": name, "weight_bits": weight_bits, "ratio": ratio, "bits_alone": alone, "files": files, **seconds}


def _float_bytes(ann: nn.Module) -> int:
    return 4 * sum(parameter.numel() for parameter in ann.parameters())


def _weight_bits(network: SpikingModel) -> int:
    """Σ of the bits that the weights of all synapses have."""
    return sum(int((synapse.widths * synapse.weight[0].numel()).sum()) for _, synapse in network.synapses())


def _check_same(network: SpikingModel, loaded: SpikingModel) -> None:
    before, after = graph_tensors(network.network), graph_tensors(loaded.network)
    if before.keys() != after.keys():
        raise SystemExit("other tensors were restored than saved")
    for name, tensor in before.items():
        if tensor.dtype != after[name].dtype or tensor.numpy().tobytes() != after[name].numpy().tobytes():
            raise SystemExit(f"{name} was not restored bit for bit")


def _cells(row: dict[str, Any]) -> list[str]:
    target = TARGETS.get(row["weight_bits"])
    verdict = "" if target is None else f"<= {target:g} {'met' if row['ratio'] <= target else 'MISSED'}"
    ratios = [f"{row['ratio']:.4f}", f"{row['bits_alone']:.4f}"]
    return [row["model"], str(row["weight_bits"]), *ratios, f"{row['save_s']:.2f}", f"{row['load_s']:.2f}", verdict]


if __name__ == "__main__":
    main()
