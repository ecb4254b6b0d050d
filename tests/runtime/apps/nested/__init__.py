"""A service with a runtime of its own: a test copies it as `myservice`, and the runtime into it."""

from .names import SERVICE

__all__ = ["SERVICE"]
