"""``snnconvert export FOLDER``: writes a converted network for other tools."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, get_args

import torch

from snnconvert.cli.arguments import OneLineParser
from snnconvert.cli.saved import add_saved_network, image_batches, load_network, saved_images
from snnconvert.engines.timeline import Latency
from snnconvert.export.nir_export import export_nir
from snnconvert.export.spike_streams import export_spike_streams
from snnconvert.spiking_model import SpikingModel

SCHEMA = "snnconvert.export/1"
_SUFFIXES = {"nir": ".nir", "spikes": ".npz"}


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert export``."""
    parser = OneLineParser(
        prog="snnconvert export",
        description="Write a converted network for other tools: nir (the Neuromorphic Intermediate Representation) or "
        "spikes (integers, spike trains and golden vectors of a few images, for hardware test benches).",
        epilog="The last line on stdout is one JSON object. Exit code 2 means that nothing was written.",
    )
    add_saved_network(parser, images=4)
    parser.add_argument("--to", choices=tuple(_SUFFIXES), required=True, help="the format")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: FOLDER.nir or FOLDER.npz")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    parser.add_argument(
        "--latency", choices=get_args(Latency), default="streaming", help="of the spike trains (default %(default)s)"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Exports a saved network.

    Raises:
        SnnConvertError: on anything the user has to change, or what the format can't say.
    """
    snn = load_network(options)
    folder = options.network
    target = options.out or folder.with_name(folder.resolve().name + _SUFFIXES[options.to])
    written = _export_nir(snn, target, options) if options.to == "nir" else _export_spikes(snn, target, options)
    if not options.quiet:
        sys.stdout.write(f"written to {target}\n")
    sys.stdout.write(json.dumps({"schema": SCHEMA, "format": options.to, "file": str(target), **written}) + "\n")


def _export_nir(snn: SpikingModel, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    return dataclasses.asdict(export_nir(snn, target, force=options.force))


def _export_spikes(snn: SpikingModel, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    images = torch.cat([inputs for inputs, _ in image_batches(saved_images(snn, options), options, "simulating")])
    export_spike_streams(snn, images, target, latency=options.latency, force=options.force)
    return {"images": len(images), "latency": options.latency}
