"""Stands in for the library of this name."""
