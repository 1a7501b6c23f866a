"""What converts, over the smallest model of every family of timm: ``python -m benchmarks.coverage``.

Each family is measured in a process of its own and its result kept in the cache folder, so that a run can be
done in parts. Weights are random (see ``benchmarks.families``); nothing is downloaded.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from benchmarks.families import DEFAULT_CACHE, Family, build, smooth_images, survey
from benchmarks.markdown import table_lines
from benchmarks.real_data import emit, emit_json, emit_table
from benchmarks.sources import ROOT, package_hash
from snnconvert.config import ConversionConfig
from snnconvert.conversion import calibrate
from snnconvert.convert.plan import Plan
from snnconvert.errors import SnnConvertError, first_line
from snnconvert.evaluation import compare
from snnconvert.preparation import PreparedConversion, prepare
from snnconvert.spiking_model import SpikingModel

MODES = ("plan", "convert", "stepwise")
TIME_LIMIT = 600
GRAPH_TOLERANCE, ROUNDINGS = 1e-5, 10
_CONFIG = ConversionConfig(bits=2, T=4, weight_bits=8)
_CALIBRATION_IMAGES, _CALIBRATION_BATCH, _TEST_IMAGES = 8, 4, 4
_CALIBRATION_SEED, _TEST_SEED = 101, 102
_BATCH_SIZES = (1, 2, 3)
_NAMED_OPS, _SLOWEST = 4, 5

Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    """Measures the families that aren't in the cache, and writes a table and totals."""
    options = _parser().parse_args(arguments)
    if options.measure is not None:
        _measure(options)
        return
    found = survey(options.cache, options.jobs)
    chosen = _chosen(found.families, options)
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda family: _row_of(family, options), chosen))
    skipped = {} if options.family else found.skipped
    totals = summarize(rows, options.mode)
    emit()
    emit_table(_HEADER, [_cells(row) for row in rows])
    emit()
    for line in (*_total_lines(totals), *_reason_lines(rows)):
        emit(line)
    for name, reason in skipped.items():
        emit(f"left out: {name}: {reason}")
    if options.markdown:
        options.markdown.write_text(markdown(rows, totals, skipped), encoding="utf-8")
    emit_json({"benchmark": "coverage", "mode": options.mode, **totals, "left_out": skipped})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.coverage", description=__doc__)
    parser.add_argument("--family", nargs="+", help="timm modules such as resnet; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="families measured at the same time")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="every Nth family from the Ith on")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of the results (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="take results of older sources where there are any")
    parser.add_argument("--limit", type=int, default=TIME_LIMIT, help="seconds a family may take (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each process")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as a page")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--plan-only", dest="mode", action="store_const", const="plan", help="capture and plan only")
    mode.add_argument(
        "--stepwise", dest="mode", action="store_const", const="stepwise", help="check steps and captured graph too"
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(mode="convert")
    return parser


def _part(text: str) -> tuple[int, int]:
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, such as 1/4")
    return int(first), int(count)


def _chosen(known: Iterable[Family], options: argparse.Namespace) -> list[Family]:
    by_name = {family.name: family for family in known}
    unknown = sorted(set(options.family or ()) - set(by_name))
    if unknown:
        raise SystemExit(f"no family of classifiers: {', '.join(unknown)}; there are {', '.join(by_name)}")
    names = options.family or list(by_name)
    first, count = options.part
    return [by_name[name] for name in names[first - 1 :: count]]


# One family, seen from the process that runs it.


def _row_of(family: Family, options: argparse.Namespace) -> Row:
    cached = _cached(family, options)
    if cached is not None:
        return cached
    options.cache.mkdir(parents=True, exist_ok=True)
    into = options.cache / f"{family.name}-{_key(family, options.mode)}.running"
    into.unlink(missing_ok=True)
    began = time.monotonic()
    problem = _run_child(family, into, options)
    row = json.loads(into.read_text(encoding="utf-8")) if into.is_file() else _new_row(family, options.mode)
    if row["stage"] not in ("done", "failed"):
        row.update(error=problem or "ended without a result", failed_in=row["stage"], stage="failed")
    row["wall_seconds"] = time.monotonic() - began
    into.unlink(missing_ok=True)
    _write(options.cache / _file_name(family, options.mode, row["sources"]), row)
    emit(f"{family.name}: {row.get('error') or 'ok'} ({row['wall_seconds']:.0f} s)")
    return row


def _run_child(family: Family, into: Path, options: argparse.Namespace) -> str | None:
    """Runs the measurement; why it ended early, if it did."""
    command = [sys.executable, "-m", "benchmarks.coverage", "--measure", family.name, "--into", str(into)]
    command += ["--cache", str(options.cache), "--threads", str(options.threads)]
    command += {"plan": ["--plan-only"], "convert": [], "stepwise": ["--stepwise"]}[options.mode]
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=options.limit, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return f"took more than {options.limit} s"
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return None if done.returncode == 0 else f"crashed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"


def _cached(family: Family, options: argparse.Namespace) -> Row | None:
    """The result of these sources, also of a mode that measures more; with --keep the newest of any sources."""
    sources = "*" if options.keep else sources_hash()
    for mode in MODES[MODES.index(options.mode) :]:
        files = sorted(options.cache.glob(_file_name(family, mode, sources)), key=lambda path: path.stat().st_mtime)
        row: Row = json.loads(files[-1].read_text(encoding="utf-8")) if files else {}
        if row and (mode == options.mode or row["stage"] == "done"):
            return row
    return None


def _file_name(family: Family, mode: str, sources: str) -> str:
    return f"{family.name}-{_key(family, mode)}-{sources}.json"


def _key(family: Family, mode: str) -> str:
    settings = [
        mode,
        dataclasses.asdict(family),
        _CONFIG.to_dict(),
        [_CALIBRATION_IMAGES, _CALIBRATION_BATCH, _TEST_IMAGES, _CALIBRATION_SEED, _TEST_SEED],
        [torch.__version__, timm.__version__],
    ]
    return f"{mode}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]}"


def sources_hash() -> str:
    """A hash of the package's sources and of what builds the networks."""
    return package_hash(ROOT / "benchmarks" / "families.py")


def _new_row(family: Family, mode: str) -> Row:
    return {**dataclasses.asdict(family), "mode": mode, "sources": sources_hash(), "stage": "start"}


def _write(path: Path, row: Row) -> None:
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


# One family, inside its own process.


def _measure(options: argparse.Namespace) -> None:
    """Measures one family and keeps what is known after every stage."""
    torch.set_num_threads(options.threads)
    (family,) = (family for family in survey(options.cache).families if family.name == options.measure)
    row = _new_row(family, options.mode)
    stage = _Stages(row, options.into)
    try:
        _run_stages(stage, family, row, options.mode)
        row["stage"] = "done"
    except Exception as error:  # any failure of any family is a result
        row.update(error=_describe(error), failed_in=row["stage"], stage="failed")
        row["traceback"] = traceback.format_exc()[-4000:]
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    _write(options.into, row)


class _Stages:
    """Runs the stages of a measurement: names the one at work on disk, and times it."""

    def __init__(self, row: Row, into: Path) -> None:
        self.row, self.into = row, into

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        self.row["stage"] = name
        _write(self.into, self.row)
        began = time.perf_counter()
        result = work()
        self.row[f"{name}_seconds"] = time.perf_counter() - began
        return result


def _run_stages(stage: _Stages, family: Family, row: Row, mode: str) -> None:
    ann = stage("build", lambda: build(family))
    test = smooth_images(_TEST_IMAGES, family.input_size, _TEST_SEED)
    calibration = smooth_images(_CALIBRATION_IMAGES, family.input_size, _CALIBRATION_SEED)
    batches = torch.split(calibration, _CALIBRATION_BATCH)
    prepared: PreparedConversion = stage("prepare", lambda: prepare(ann, batches[0], _CONFIG))
    row.update(plan_facts(prepared.plan))
    if mode == "plan":
        return
    if mode == "stepwise":
        row["graph_difference"] = stage("graph", lambda: graph_difference(prepared.graph, ann, test))
        row["rounding"] = stage("rounding", lambda: rounding(ann, test))
    snn: SpikingModel = stage("convert", lambda: calibrate(prepared, list(batches), progress=False))
    row.update(stage("evaluate", lambda: _fidelity(ann, snn, test)))
    if mode == "stepwise":
        row["stepwise_equal"] = stage("stepwise", lambda: _stepwise_equal(snn, test[:1]))


def plan_facts(plan: Plan) -> Row:
    """Sizes, coverage, and what stays analog by (op, reason)."""
    groups: dict[tuple[str, str], list[int]] = {}
    for item in plan.analog:
        group = groups.setdefault((item.op, item.reason), [0, 0])
        group[0] += 1
        group[1] += item.macs
    ordered = sorted(groups.items(), key=lambda entry: (-entry[1][1], -entry[1][0], entry[0]))
    return {
        "macs": plan.total_macs,
        "coverage": plan.coverage,
        "synapses": len(plan.synapses),
        "sites": len(plan.sites),
        "analog": [{"op": op, "reason": why, "count": count, "macs": macs} for (op, why), (count, macs) in ordered],
    }


def graph_difference(graph: nn.Module, ann: nn.Module, images: Tensor) -> float:
    """Largest difference of the captured graph from the network over batch sizes, relative to the largest logit."""
    worst = 0.0
    with torch.no_grad():
        for size in _BATCH_SIZES:
            expected, actual = ann(images[:size]), graph(images[:size])
            worst = max(worst, float((actual - expected).abs().max() / expected.abs().max()))
    return worst


def rounding(ann: nn.Module, images: Tensor) -> float:
    """How far float32's rounding alone moves the logits: with every weight off by about its last bit."""
    generator = torch.Generator().manual_seed(_CALIBRATION_SEED)
    moved = copy.deepcopy(ann)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1 + torch.finfo(torch.float32).eps * torch.randn(parameter.shape, generator=generator))
        expected = ann(images)
        return float((moved(images) - expected).abs().max() / expected.abs().max())


def _fidelity(ann: nn.Module, snn: nn.Module, images: Tensor) -> Row:
    fidelity = compare(ann, snn, [(images, None)]).fidelity("other smooth random images")
    with torch.no_grad():
        logits = ann(images)
    variation = (logits.var(0).mean() / logits.square().mean()).sqrt()
    return {
        "logit_sqnr_db": fidelity.logit_sqnr_db,
        "agreement": fidelity.top1_agreement,
        "logit_variation": float(variation),
    }


def _stepwise_equal(snn: SpikingModel, image: Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(snn.simulate(image).output, snn(image))


def _describe(error: Exception) -> str:
    text = first_line(error)
    if isinstance(error, SnnConvertError):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}:{frame.lineno})"


# What the rows say together.


def summarize(rows: list[Row], mode: str) -> Row:
    """Totals over the families."""
    done = [row for row in rows if row["stage"] == "done"]
    covered = sorted((row["coverage"], row["name"]) for row in rows if "coverage" in row)
    noise = sorted((row["logit_sqnr_db"], row["name"]) for row in done if row.get("logit_sqnr_db") is not None)
    slowest = sorted(((row["prepare_seconds"], row["name"]) for row in rows if "prepare_seconds" in row), reverse=True)
    totals: Row = {
        "families": len(rows),
        "planned": len(covered),
        "converted": len(done) if mode != "plan" else None,
        "median_coverage": _median(covered),
        "worst_coverage": covered[0] if covered else None,
        "median_sqnr_db": _median(noise),
        "worst_sqnr_db": noise[0] if noise else None,
        "slowest_captures": [[name, seconds] for seconds, name in slowest[:_SLOWEST]],
        "missed": {row["name"]: f"{row['failed_in']}: {row['error']}" for row in rows if row["stage"] == "failed"},
    }
    if mode == "stepwise":
        totals["stepwise_equal"] = sum(bool(row.get("stepwise_equal")) for row in done)
        totals["stepwise_unequal"] = [row["name"] for row in done if not row.get("stepwise_equal")]
        apart = {row["name"]: row["graph_difference"] for row in rows if "graph_difference" in row}
        allowed = {row["name"]: max(GRAPH_TOLERANCE, ROUNDINGS * row.get("rounding", 0.0)) for row in rows}
        # Negated so that NaN counts as a difference.
        totals["graph_unequal"] = {name: value for name, value in apart.items() if not value <= allowed[name]}
        totals["graph_rounded"] = {
            name: value for name, value in apart.items() if GRAPH_TOLERANCE < value <= allowed[name]
        }
    return totals


def analog_over_families(rows: Iterable[Row]) -> list[Row]:
    """Every (op, reason) that stays analog: families, nodes and the sum of its shares of their MACs."""
    groups: dict[tuple[str, str], Row] = {}
    for row in rows:
        for item in row.get("analog", ()):
            key = (item["op"], item["reason"])
            group = groups.setdefault(
                key, {"op": key[0], "reason": key[1], "families": [], "count": 0, "mac_share": 0.0}
            )
            group["families"].append(row["name"])
            group["count"] += item["count"]
            group["mac_share"] += item["macs"] / max(row["macs"], 1)
    return sorted(groups.values(), key=lambda group: (-len(group["families"]), -group["mac_share"], group["op"]))


def _median(values: list[tuple[float, str]]) -> float | None:
    return statistics.median(value for value, _ in values) if values else None


_HEADER = ("family", "model", "input", "MMACs", "coverage", "SQNR dB", "agree", "analog", "stepwise", "prepare s")


def _cells(row: Row) -> list[str]:
    if "coverage" not in row:
        return [row["name"], row["model"], _input(row), "", "", "", "", f"{row['failed_in']}: {row['error']}", "", ""]
    failure = f"{row['failed_in']}: {row['error']}; " if row["stage"] == "failed" else ""
    return [
        row["name"],
        row["model"],
        _input(row),
        f"{row['macs'] / 1e6:.0f}",
        _percent(row["coverage"]),
        "" if row.get("logit_sqnr_db") is None else f"{row['logit_sqnr_db']:.1f}",
        _percent(row["agreement"], 0) if "agreement" in row else "",
        failure + _analog_in_short(row),
        ("equal" if row["stepwise_equal"] else "DIFFERS") if "stepwise_equal" in row else "",
        f"{row['prepare_seconds']:.1f}",
    ]


def _percent(share: float, digits: int = 2) -> str:
    """Rounded down, so that 100 % means all of it."""
    scale = 10**digits
    return f"{int(share * 100 * scale) / scale:.{digits}f} %"


def _input(row: Row) -> str:
    return "x".join(str(size) for size in row["input_size"])


def _analog_in_short(row: Row) -> str:
    counts: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    for item in row["analog"]:
        counts[item["op"]] += item["count"]
        macs[item["op"]] += item["macs"]
    ordered = sorted(counts, key=lambda op: (-macs[op], -counts[op], op))
    shown = [f"{op}×{counts[op]}" for op in ordered[:_NAMED_OPS]]
    rest = sum(counts[op] for op in ordered[_NAMED_OPS:])
    return ", ".join([*shown, *([f"{rest} more"] if rest else [])]) or "none"


def _total_lines(totals: Row) -> list[str]:
    lines = [f"captured and planned: {totals['planned']} of {totals['families']} families"]
    if totals["converted"] is not None:
        lines.append(f"converted: {totals['converted']} of {totals['families']} families")
    if totals["worst_coverage"]:
        share, name = totals["worst_coverage"]
        lines.append(
            f"share of MACs on spikes: median {_percent(totals['median_coverage'])}, worst {_percent(share)} ({name})"
        )
    if totals["worst_sqnr_db"]:
        noise, name = totals["worst_sqnr_db"]
        lines.append(f"logit SQNR: median {totals['median_sqnr_db']:.1f} dB, worst {noise:.1f} dB ({name})")
    if "stepwise_equal" in totals:
        unequal = ", ".join(totals["stepwise_unequal"]) or "none"
        lines.append(f"stepwise equal to packed, bit for bit: {totals['stepwise_equal']}; unequal: {unequal}")
        apart = ", ".join(f"{name} ({value:.1e})" for name, value in totals["graph_unequal"].items()) or "none"
        lines.append(f"captured graph further than {GRAPH_TOLERANCE:g} from the network, and than rounding: {apart}")
        rounded = ", ".join(f"{name} ({value:.1e})" for name, value in totals["graph_rounded"].items()) or "none"
        lines.append(f"further than {GRAPH_TOLERANCE:g}, but within {ROUNDINGS} times what rounding does: {rounded}")
    slowest = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in totals["slowest_captures"])
    lines.append(f"slowest captures: {slowest or 'none'}")
    lines += [f"missed: {name}: {reason}" for name, reason in totals["missed"].items()]
    return lines


def _reason_lines(rows: Iterable[Row]) -> list[str]:
    return [
        f"analog: {group['op']} ({group['reason']}): {len(group['families'])} families, {group['count']} nodes, "
        f"Σ MAC shares {100 * group['mac_share']:.2f} %"
        for group in analog_over_families(rows)
    ]


def markdown(rows: list[Row], totals: Row, skipped: dict[str, str]) -> str:
    """The page: a row per family, totals, analog reasons over all families."""
    lines = [
        "# Coverage of timm's model families",
        "",
        f"`python -m benchmarks.coverage --stepwise`: the smallest classifier of each family at its own input size, "
        f"random weights, {_CONFIG.weight_bits}-bit weights, {_CONFIG.bits}-bit spikes, T = {_CONFIG.T}, thresholds "
        f"from {_CALIBRATION_IMAGES} smooth random images; fidelity on {_TEST_IMAGES} others. timm {timm.__version__}, "
        f"torch {torch.__version__}.",
        "",
        "Many deep networks of random weights amplify every error: the ones far below 20 dB move by 1e-6 to 1e-3 when "
        "each weight moves by its last bit, trained ones don't (`python -m benchmarks.real_networks`).",
        "",
        *table_lines(_HEADER, [_cells(row) for row in rows]),
        "",
        "## Totals",
        "",
        *(f"- {line}" for line in _total_lines(totals)),
        *(f"- left out: {name}: {reason}" for name, reason in skipped.items()),
        "",
        "## What stays analog",
        "",
        *table_lines(
            ("op", "reason", "families", "nodes", "Σ MAC shares"),
            [
                [
                    group["op"],
                    group["reason"],
                    str(len(group["families"])),
                    str(group["count"]),
                    f"{100 * group['mac_share']:.2f} %",
                ]
                for group in analog_over_families(rows)
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
