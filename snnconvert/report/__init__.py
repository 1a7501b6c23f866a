"""The report: what a conversion did, cost and kept; it only reads."""
