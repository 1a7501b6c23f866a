"""Energy of each layer by component, by the twin model with the constants a report holds."""

from __future__ import annotations

from snnconvert.energy.cost import Cost, Network
from snnconvert.energy.twin import TwinConstants, TwinModel
from snnconvert.report.layer_account import workload_of
from snnconvert.report.schema import ReportData


def layer_costs(report: ReportData) -> dict[Network, tuple[Cost, ...]]:
    """Costs in pJ for one image, by network, in the order of ``report.layers``.

    Raises:
        ConfigurationError: if the report's constants aren't those of the model.
    """
    constants = TwinConstants.from_table(report.energy.constants.get("twin", {}), "the report's constants, twin")
    model, layers = TwinModel(constants), workload_of(report.layers, (), report.totals).layers
    return {network: tuple(model.layer(layer, network) for layer in layers) for network in Network}
