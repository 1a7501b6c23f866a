"""The plain-text table of a report on a network that is converted by parts."""

from __future__ import annotations

from collections.abc import Mapping

from snnconvert.convert.plan import Plan
from snnconvert.report.parts_report import PartsReport
from snnconvert.report.tables import metric_line, plan_table
from snnconvert.report.text import format_table, quantity


def parts_plan(plans: Mapping[str, Plan]) -> str:
    """The plan of each part under its name."""
    return "\n\n".join(f"part {name}\n{plan_table(plan)}" for name, plan in plans.items())


def parts_table(report: PartsReport) -> str:
    """One row a part, what stays outside, and the metrics."""
    rows = [
        [
            name,
            str(len(part.layers)),
            quantity(part.totals.macs),
            f"{part.coverage.macs_on_spikes:.2%}",
            f"{part.totals.bit_budget:.4g}",
            "-" if part.fidelity.logit_sqnr_db is None else f"{part.fidelity.logit_sqnr_db:.1f}",
        ]
        for name, part in report.parts.items()
    ]
    headers = ["part", "layers", "MACs a sample", "on spikes", "BB", "SQNR dB"]
    outside = [f"  {name or 'the model itself'}: {reason}" for name, reason in report.outside.items()]
    lines = [f"note        {note}" for note in report.notes]
    lines += [metric_line(metric) for metric in report.metrics]
    lines += [
        f"coverage    {report.coverage:.2%} of all MACs on spikes, over the calibration images",
        f"data        {report.data}",
    ]
    return "\n\n".join([format_table(headers, rows), "\n".join(["stays outside:", *outside]), "\n".join(lines)])
