"""Layers of spiking networks that are trained from scratch, and a plain training loop."""
