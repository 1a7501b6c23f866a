"""Puts this directory on the import path of the tests below it, which share trainable_networks."""
