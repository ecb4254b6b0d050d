"""A library that cannot be imported."""

raise ValueError("broken")
