"""What networks cost on hardware: models of energy and effort, their constants, and comparisons."""
