"""Weights as integers: widths of channels, and rounding that keeps a layer's output."""
