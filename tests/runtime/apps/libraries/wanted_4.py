"""A library."""

something = 1
