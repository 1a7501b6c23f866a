"""What a conversion amounts to: its report, and the account of any spiking network."""

from snnconvert.report.network.account import account
from snnconvert.report.network.result import NetworkAccount

__all__ = ["NetworkAccount", "account"]
