"""``python -m snnconvert``: the same as the ``snnconvert`` command."""

import sys

from snnconvert.cli import main

if __name__ == "__main__":
    sys.exit(main())
