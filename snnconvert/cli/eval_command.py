"""``snnconvert eval FOLDER``: a converted network in an engine: accuracy, speed, and how exact it is."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

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
from snnconvert.engine_evaluation import (
    ALL_ENGINES,
    PACKED,
    EngineReport,
    PackedComparison,
    evaluate_engine,
    names_by_kind,
)
from snnconvert.errors import InputError
from snnconvert.hybrid_evaluation import evaluate_hybrid
from snnconvert.report.text import format_table
from snnconvert.tasks.engine_scores import SegmentationScorer, TaskScore
from snnconvert.tasks.evaluation import CLASSIFICATION, DETECTION, SEGMENTATION

_NAMES_SHOWN = 4


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``snnconvert eval``."""
    parser = OneLineParser(
        prog="snnconvert eval",
        description="Run a converted network on images in an engine: accuracy, images per second, and where its "
        "integers differ from those of the packed network.",
        epilog="Of networks for segmentation and detection the metric is mIoU and mAP: give the data as for the "
        "conversion. Without labels, decisions are compared with those of the packed network. Speed is that of the "
        "engine alone, on this machine: reading images doesn't count, nor does a first batch. The last line on stdout "
        "is one JSON object.",
    )
    add_saved_network(parser, images=None, option="--limit")
    add_task(parser)
    parser.add_argument(
        "--engine", choices=ALL_ENGINES, default=PACKED,
        help="packed and stepwise run in torch, the others compile the network for a runtime's 8-bit kernels "
        "(default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of one call")
    parser.add_argument(
        "--verify", action="store_true", help="count, layer by layer, words that differ from the packed network's"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Evaluates a saved network.

    Raises:
        SnnConvertError: on anything the user has to change.
    """
    _set_threads(options.threads)
    task = task_of(options)
    report, about = _MEASURED[task](options)
    if not options.quiet:
        sys.stdout.write(f"{_text(report)}\n")
    settings = {"batch_size": options.batch_size, "threads": options.threads, "task": task}
    sys.stdout.write(json.dumps({**report.to_dict(), **settings, **about}, allow_nan=False) + "\n")


def _classification(options: argparse.Namespace) -> tuple[EngineReport, dict[str, str]]:
    snn = load_network(options)
    images = saved_images(snn, options)
    batches = image_batches(images, options, "evaluating")
    report = evaluate_engine(snn, options.engine, batches, threads=options.threads, verify=options.verify)
    return report, {"model": snn.report.model, "data": images.description}


def _segmentation(options: argparse.Namespace) -> tuple[EngineReport, dict[str, str]]:
    snn = load_network(options)
    sets = saved_masks(snn, options)
    report = evaluate_engine(
        snn,
        options.engine,
        mask_batches(sets, options, "evaluating"),
        threads=options.threads,
        verify=options.verify,
        scorer=SegmentationScorer(void_of(options), options.seed),
    )
    return report, {"model": snn.report.model, "data": sets.description}


def _detection(options: argparse.Namespace) -> tuple[EngineReport, dict[str, str]]:
    hybrid, parts, sets = saved_boxes(options)
    items, scorer = box_items(sets, options, "evaluating"), box_scorer(options)
    report = evaluate_hybrid(hybrid, options.engine, items, scorer, threads=options.threads, verify=options.verify)
    return report, {"model": parts.model, "data": sets.description}


_MEASURED = {CLASSIFICATION: _classification, SEGMENTATION: _segmentation, DETECTION: _detection}


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    most = 4 * (os.cpu_count() or 1)
    if not 1 <= threads <= most:
        raise InputError(f"--threads must be from 1 to {most} on this machine, got {threads}")
    torch.set_num_threads(threads)


def _text(report: EngineReport) -> str:
    parts = ["\n".join(f"{name}: {value}" for name, value in _lines(report))]
    if report.packed is not None and report.packed.layers:
        parts.append(_layers(report.packed))
    return "\n\n".join(parts)


def _lines(report: EngineReport) -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = [("engine", report.engine), ("images", f"{report.images:,}")]
    if report.accuracy is not None:
        low, high = report.accuracy.ci95
        lines.append(("top-1 accuracy", f"{report.accuracy.top1:.2%} (95 % interval {low:.2%} to {high:.2%})"))
    lines += [(score.name, _valued(score)) for score in report.metrics]
    lines += _compared(report.packed)
    lines.append(("images per second", f"{report.images_per_second:.4g} (this machine's)"))
    if report.compile_seconds is not None:
        cached = ", built model from the cache" if report.from_cache else ""
        lines.append(("compiled in", f"{report.compile_seconds:.1f} s{cached}"))
    if report.compile_seconds is not None:
        kinds = names_by_kind(report.float_operations)
        lines += [(f"in floating point: {kind} x {len(names)}", _shortened(names)) for kind, names in kinds.items()]
    return [*lines, *(("note", note) for note in report.notes)]


def _valued(score: TaskScore) -> str:
    if score.ci95 is None:
        return f"{score.value:.2%}"
    return f"{score.value:.2%} (95 % interval {score.ci95[0]:.2%} to {score.ci95[1]:.2%})"


def _compared(packed: PackedComparison | None) -> list[tuple[str, str]]:
    if packed is None:
        return []
    share = "-" if packed.top1_agreement is None else f"{packed.top1_agreement:.2%}"
    lines = [
        ("decisions of the packed network", share),
        ("largest difference of an output", f"{packed.largest_difference:.3g}"),
    ]
    if packed.layers is not None:
        words = sum(layer.words for layer in packed.layers)
        lines.append(("words that differ", f"{packed.mismatches:,} of {words:,}"))
    return lines


def _shortened(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f", {more} more" if more > 0 else "")


def _layers(packed: PackedComparison) -> str:
    rows = [
        [layer.layer, f"{layer.words:,}", f"{layer.mismatches:,}", str(layer.largest)] for layer in packed.layers or ()
    ]
    return format_table(["neuron layer", "words", "differ", "by at most"], rows)
