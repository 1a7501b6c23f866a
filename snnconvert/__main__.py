"""``python -m snnconvert``: the same as the ``snnconvert`` command."""

import sys

from snnconvert.cli.entry import run

if __name__ == "__main__":
    sys.exit(run())
