"""Compositions of several systems, which use public API only."""
