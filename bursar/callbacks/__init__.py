"""Attach to whatever runs tools and models for you."""
