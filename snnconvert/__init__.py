"""Convert pretrained neural networks into spiking neural networks, and account for every bit."""
