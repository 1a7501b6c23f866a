"""Graph-to-graph passes: each takes a GraphModule and returns it, equal to the ANN."""
