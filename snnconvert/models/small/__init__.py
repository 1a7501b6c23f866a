"""The papers' small networks, each as an ANN, as a quantized network and as a spiking one with the same weights."""
