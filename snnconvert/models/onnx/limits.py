"""How much a file may ask for: caps that ordinary networks stay far below."""

from __future__ import annotations

MOST_DECISIONS = 32
"""Branches that follow from shapes; each costs a run without values."""
MOST_ITERATIONS = 2048
"""Of one loop."""
MOST_NODES = 100_000
"""Nodes after functions and branches are inlined and loops unrolled."""
DEEPEST_NESTING = 16
"""Functions in functions, or subgraphs in subgraphs."""
MOST_FILE_BYTES = (1 << 31) - 1
"""Protocol buffers end here; larger networks keep their weights in external data."""
LARGEST_DIMENSION = 1 << 20
"""Of a declared input."""
MOST_ELEMENTS = 1 << 28
"""Of one declared input, or one value computed per run at the declared shape."""
MOST_FOLDED_ELEMENTS = 1 << 26
"""Computed from constants while importing, in all, beside four times the bytes of the file itself."""
MOST_REPEATED_ELEMENTS = 1 << 29
"""Of constants that repeat one number and take no memory, in all."""
MOST_FOLDED_PRODUCTS = float(1 << 33)
"""Multiply-accumulates of one constant product."""
MOST_HOST_ELEMENTS = 4096
"""Of a constant that is also kept as plain numbers."""
MOST_HOST_RESULT = 1 << 16
"""Of a shape computation's result."""
