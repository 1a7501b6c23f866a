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
from snnconvert.engines.integer.dialect import DIALECTS, ONNXRUNTIME
from snnconvert.engines.timeline import Latency
from snnconvert.errors import InputError
from snnconvert.export.nir_export import export_nir
from snnconvert.export.onnx_export import export_onnx
from snnconvert.export.spike_streams import export_spike_streams
from snnconvert.spiking_model import SpikingModel

SCHEMA = "snnconvert.export/1"
_SUFFIXES = {"nir": ".nir", "onnx": ".onnx", "spikes": ".npz"}


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert export``."""
    parser = OneLineParser(
        prog="snnconvert export",
        description="Write a converted network for other tools: nir (the Neuromorphic Intermediate Representation), "
        "onnx (8-bit integers that any ONNX runtime executes) or spikes (integers, spike trains and golden vectors of "
        "a few images, for hardware test benches).",
        epilog="The last line on stdout is one JSON object. Exit code 2 means that nothing was written.",
    )
    add_saved_network(parser, images=4)
    parser.add_argument("--to", choices=tuple(_SUFFIXES), required=True, help="the format")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: FOLDER.nir, .onnx or .npz")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    parser.add_argument(
        "--latency", choices=get_args(Latency), default="streaming", help="of the spike trains (default %(default)s)"
    )
    group = parser.add_argument_group("onnx")
    group.add_argument(
        "--dialect", choices=tuple(DIALECTS),
        help="the runtime whose 8-bit kernels the file is written for, which computes the same words; the other one "
        f"runs it, too, but more slowly or with words that differ (default {ONNXRUNTIME.name})",
    )  # fmt: skip
    group.add_argument("--batch", type=int, metavar="N", help="a fixed batch size (default: any)")
    group.add_argument(
        "--words", action="store_true", help="what every layer of neurons fires, as bytes, beside the outputs"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Exports a saved network.

    Raises:
        SnnConvertError: on anything the user has to change, or what the format can't say.
    """
    _check_options(options)
    snn = load_network(options)
    folder = options.network
    target = options.out or folder.with_name(folder.resolve().name + _SUFFIXES[options.to])
    export = {"nir": _export_nir, "onnx": _export_onnx, "spikes": _export_spikes}[options.to]
    written = export(snn, target, options)
    if not options.quiet:
        sys.stdout.write(f"written to {target}\n")
    sys.stdout.write(json.dumps({"schema": SCHEMA, "format": options.to, "file": str(target), **written}) + "\n")


def _check_options(options: argparse.Namespace) -> None:
    """Refuses options of another format."""
    given = {"--dialect": options.dialect, "--batch": options.batch, "--words": options.words or None}
    for option, value in given.items():
        if options.to != "onnx" and value is not None:
            raise InputError(f"{option} is for --to onnx: leave it out with --to {options.to}")


def _export_nir(snn: SpikingModel, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    return dataclasses.asdict(export_nir(snn, target, force=options.force))


def _export_onnx(snn: SpikingModel, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    dialect = options.dialect or ONNXRUNTIME.name
    written = export_onnx(snn, target, dialect=dialect, batch=options.batch, words=options.words, force=options.force)
    return dataclasses.asdict(written)


def _export_spikes(snn: SpikingModel, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    images = torch.cat([inputs for inputs, _ in image_batches(saved_images(snn, options), options, "simulating")])
    export_spike_streams(snn, images, target, latency=options.latency, force=options.force)
    return {"images": len(images), "latency": options.latency}
