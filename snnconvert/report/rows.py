"""The layers as rows of bare numbers, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import dataclasses
import io

from snnconvert.energy.cost import Network
from snnconvert.report.report import Report
from snnconvert.report.schema import LayerReport
from snnconvert.report.view.layer_energy import layer_costs


def csv_text(report: Report) -> str:
    """One row a layer, in the order of the network, with a row of headings (RFC 4180).

    The columns are the fields of :class:`~snnconvert.report.schema.LayerReport`, then the layer's energy in each of the
    five networks by the twin model, in pJ for one image: ``energy_snn_serial_pj``. A value that is missing is empty.
    """
    costs = layer_costs(report)
    fields = [item.name for item in dataclasses.fields(LayerReport)]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*fields, *(f"energy_{network.value}_pj" for network in Network)])
    for index, layer in enumerate(report.layers):
        values = (getattr(layer, name) for name in fields)
        writer.writerow([*values, *(costs[network][index].total for network in Network)])
    return text.getvalue()
