"""The command line."""

from snnconvert.cli.main import main

__all__ = ["main"]
