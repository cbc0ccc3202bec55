"""Decide, purely: numbers in, a verdict out; no clock, no lock, no I/O."""
