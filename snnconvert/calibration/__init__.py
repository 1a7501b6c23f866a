"""Calibration: one streaming pass over images, order-free statistics, thresholds, repair."""
