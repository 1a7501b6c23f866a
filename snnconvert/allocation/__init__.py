"""Allocation: (T, spike bits, weight bits) of every layer under a budget, by measured sensitivities."""
