"""Explain, purely: small aggregates in, tables and trees out."""
