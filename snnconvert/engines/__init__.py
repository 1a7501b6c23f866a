"""Engines that run a spiking network; the stepwise one is the reference: T steps in time, spikes visible."""
