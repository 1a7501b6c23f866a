"""Training of spiking networks: surrogate gradients, networks trained from scratch, fine-tuning of converted ones."""
