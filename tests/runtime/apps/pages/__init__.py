"""A service with pages of its own, for browsers."""
