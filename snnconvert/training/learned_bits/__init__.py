"""Learned bit allocation: bits of weights and spikes and time steps of each layer are trained with the weights."""
