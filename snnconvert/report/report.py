"""The report of a conversion: its data, and the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snnconvert.report.html.page import report_page
from snnconvert.report.html.rendering import write_page
from snnconvert.report.schema import ReportData
from snnconvert.report.view.parts import Curve


@dataclass(frozen=True)
class Report(ReportData):
    """Everything a conversion has to say: see the fields of :class:`~snnconvert.report.schema.ReportData`."""

    def to_html(self, path: str | Path, curves: Sequence[Curve] = ()) -> None:
        """Writes the report as one HTML file that needs no other and no network; a file that is there is replaced.

        Args:
            path: the file; folders that are missing are made.
            curves: what was measured apart from the conversion, of :mod:`snnconvert.plots.page_curves`.

        Raises:
            InputError: if the file can't be written.
        """
        write_page(path, report_page(self, curves))
