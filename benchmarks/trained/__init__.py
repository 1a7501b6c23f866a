"""Trained networks with real data, one a file: what each is, what it reads, and what its metric is."""
