"""The integer engine: packed networks as 8-bit integer graphs that existing runtimes execute."""
