"""From an ANN to a spiking network: capture, canonical form, plan, insertion."""
