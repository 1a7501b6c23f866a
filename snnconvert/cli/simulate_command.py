"""``snnconvert simulate FOLDER``: runs a converted network in time and shows what its neurons do."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

import torch

from snnconvert.cli.arguments import OneLineParser
from snnconvert.cli.saved import add_saved_network, image_batches, load_network, saved_images
from snnconvert.cli.saved_task import (
    add_task,
    box_items,
    box_scorer,
    mask_batches,
    saved_boxes,
    saved_masks,
    task_of,
    void_of,
)
from snnconvert.engines.timeline import Latency
from snnconvert.errors import InputError
from snnconvert.hybrid_in_time import measure_hybrid_in_time
from snnconvert.in_time import TimeReport, measure_in_time
from snnconvert.report.text import format_table
from snnconvert.spiking_model import SpikingModel
from snnconvert.tasks.engine_scores import ReadoutOverlaps
from snnconvert.tasks.evaluation import CLASSIFICATION, DETECTION, SEGMENTATION

_SHOWN_SAMPLES = 16


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert simulate``."""
    parser = OneLineParser(
        prog="snnconvert simulate",
        description="Run a converted network step by step: accuracy (or mIoU, or mAP) against time, firing rates, "
        "unevenness, pictures.",
        epilog="Of networks for segmentation and detection, give the data as for the conversion. "
        "The last line on stdout is one JSON object.",
    )
    add_saved_network(parser, images=128)
    add_task(parser)
    parser.add_argument(
        "--latency",
        choices=get_args(Latency),
        default="streaming",
        help="streaming: rate-coded neurons fire while they integrate; window: every neuron waits for its whole "
        "input (default %(default)s)",
    )
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="write curve.png, raster.png and rates.png to this folder"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Simulates a saved network.

    Raises:
        SnnConvertError: on anything the user has to change.
    """
    task = task_of(options)
    if task == DETECTION and options.plots is not None:
        raise InputError("--plots draws one spiking network, a detector has several: leave it out")
    report, description = _MEASURED[task](options)
    if not options.quiet:
        sys.stdout.write(f"{_table(report)}\n")
    sys.stdout.write(json.dumps({**report.to_dict(), "task": task, "data": description}, allow_nan=False) + "\n")


def _classification(options: argparse.Namespace) -> _Measured:
    snn = load_network(options)
    images = saved_images(snn, options)
    report = measure_in_time(snn, image_batches(images, options, "simulating"), latency=options.latency)
    if options.plots is not None:
        _write_pictures(snn, next(image_batches(images, _quietly(options), ""))[0], report, options)
    return report, images.description


def _segmentation(options: argparse.Namespace) -> _Measured:
    snn = load_network(options)
    sets, overlaps = saved_masks(snn, options), ReadoutOverlaps(void_of(options))
    batches = mask_batches(sets, options, "simulating")
    report = measure_in_time(snn, batches, latency=options.latency, overlaps=overlaps)
    if options.plots is not None:
        _write_pictures(snn, next(mask_batches(sets, _quietly(options), ""))[0], report, options)
    return report, sets.description


def _detection(options: argparse.Namespace) -> _Measured:
    hybrid, _, sets = saved_boxes(options)
    items = box_items(sets, options, "simulating")
    return measure_hybrid_in_time(hybrid, items, box_scorer(options), latency=options.latency), sets.description


def _quietly(options: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "quiet": True})


_Measured = tuple[TimeReport, str]
_MEASURED = {CLASSIFICATION: _classification, SEGMENTATION: _segmentation, DETECTION: _detection}


def _write_pictures(snn: SpikingModel, images: torch.Tensor, report: TimeReport, options: argparse.Namespace) -> None:
    from snnconvert.plots.canvas import save_figure
    from snnconvert.plots.curves import accuracy_curve
    from snnconvert.plots.raster import network_raster
    from snnconvert.plots.rates import rate_histogram

    try:
        options.plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{options.plots} can't be written: {error.strerror}") from None
    simulation = snn.simulate(images[:_SHOWN_SAMPLES], latency=options.latency, record="spikes")
    metric = snn.report.metric
    figures = {
        "curve.png": accuracy_curve(report.curve, None if metric is None else metric.ann),
        "raster.png": network_raster(simulation),
        "rates.png": rate_histogram(simulation),
    }
    for name, figure in figures.items():
        save_figure(figure, options.plots / name)


def _table(report: TimeReport) -> str:
    rows = [
        [
            layer.name,
            layer.code,
            str(layer.T),
            str(layer.start),
            f"{layer.firing_rate:.3f}",
            "-" if layer.unevenness is None else f"{layer.unevenness.differing:.2%}",
            "-" if layer.unevenness is None else f"{layer.unevenness.rms:.3f}",
        ]
        for layer in report.layers
    ]
    headers = ["neuron layer", "code", "T", "first tick", "rate", "uneven", "rms in steps"]
    parts = [format_table(headers, rows, left=2), _curve(report)]
    parts += [f"{adapter.layer}: {adapter.action}" for adapter in report.adapters]
    return "\n\n".join([*parts[:2], *(["\n".join(parts[2:])] if parts[2:] else [])])


def _curve(report: TimeReport) -> str:
    curve = report.curve
    accuracy = ["-"] * len(curve.ticks) if curve.accuracy is None else [f"{value:.2%}" for value in curve.accuracy]
    rows = [
        [str(tick), right, f"{same:.2%}"]
        for tick, right, same in zip(curve.ticks, accuracy, curve.agreement, strict=True)
    ]
    table = format_table(["read out at tick", curve.metric, "decided as in the end"], rows)
    return f"{table}\n\n{report.latency} latency: answer complete after {report.ticks} ticks, {curve.images} images"
