"""What a report costs beside the conversion it reports on: ``python -m benchmarks.report_cost``.

Weights and images are random and nothing is downloaded. The time is that of the account of energy, the page and the
JSON file, best of three; what synapses were seen to read is counted in the pass that repairs them, and not told apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import snnconvert
from benchmarks.random_networks import RandomImages, build_network, side_of
from benchmarks.real_data import emit_json, emit_table
from snnconvert.conversion import convert_whole
from snnconvert.energy.profile import load_profile
from snnconvert.report.hardware import on_hardware
from snnconvert.report.report import Report

MOST_TIME, MOST_BYTES = 0.1, 2_000_000
_BATCH, _TRIALS = 32, 3


def main(arguments: list[str] | None = None) -> None:
    """Converts every model, then builds its report again."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = [_row(name, options.images) for name in options.models]
    emit_table(("model", "layers", "conversion s", "report s", "share", "page MB", "target"), map(_cells, rows))
    emit_json({"benchmark": "report_cost", "threads": options.threads, "images": options.images, "rows": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.report_cost", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet50"], help="of timm or torchvision, or cifar_resnet20")
    parser.add_argument("--images", type=int, default=64, help="to calibrate on (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _row(name: str, images: int) -> dict[str, Any]:
    ann, loader = build_network(name), RandomImages(images, min(images, _BATCH), side_of(name), seed=2)
    start = time.perf_counter()
    report = convert_whole(ann, loader, snnconvert.ConversionConfig(), progress=False).report
    conversion = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        seconds = min(_report_seconds(report, Path(folder)) for _ in range(_TRIALS))
        page = (Path(folder) / "report.html").stat().st_size
    return {
        "model": name,
        "layers": len(report.layers),
        "conversion_s": conversion,
        "report_s": seconds,
        "page_bytes": page,
        "target_met": seconds <= MOST_TIME * conversion and page <= MOST_BYTES,
    }


def _report_seconds(report: Report, folder: Path) -> float:
    start = time.perf_counter()
    again = on_hardware(report, load_profile())
    again.to_json(folder / "report.json")
    again.to_html(folder / "report.html")
    return time.perf_counter() - start


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["model"],
        str(row["layers"]),
        f"{row['conversion_s']:.1f}",
        f"{row['report_s']:.2f}",
        f"{row['report_s'] / row['conversion_s']:.1%}",
        f"{row['page_bytes'] / 1e6:.2f}",
        "met" if row["target_met"] else "MISSED",
    ]


if __name__ == "__main__":
    main()
