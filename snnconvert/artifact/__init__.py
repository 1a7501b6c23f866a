"""Saved networks: JSON and safetensors, no pickle, no code."""
