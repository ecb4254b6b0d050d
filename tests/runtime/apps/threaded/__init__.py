"""A service with a library that must not be imported before a fork."""

import starts_thread

__all__ = ["starts_thread"]
