"""Runs and budgets: opening them, what lies around a call, the two drivers, and the process that holds it all."""
