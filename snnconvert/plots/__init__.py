"""Pictures of simulations, with matplotlib: the optional extra "plot"."""
