"""Training: of converted spiking networks end to end, and of spiking networks from scratch."""
