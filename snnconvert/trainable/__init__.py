"""Differentiable forms of spiking networks: they give what the integers do, and gradients pass straight through."""
