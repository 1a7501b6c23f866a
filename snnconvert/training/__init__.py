"""Training: what needs gradients through the whole network."""
