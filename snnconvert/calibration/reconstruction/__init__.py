"""Block-wise training of integer weights and thresholds towards the ANN's own activations, without labels."""
