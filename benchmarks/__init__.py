"""Measurements: commands that print ratios, run as python -m benchmarks.NAME."""
