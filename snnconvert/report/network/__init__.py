"""The account of any spiking network, measured while its own forward runs."""
