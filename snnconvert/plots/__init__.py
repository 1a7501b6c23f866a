"""Pictures of simulations, searches and reports, with matplotlib."""
