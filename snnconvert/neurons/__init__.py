"""Spiking neurons, their codes and the integer synapses between them; nothing here knows of graphs."""
