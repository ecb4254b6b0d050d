"""A library that imports a module of the service."""

import consulted.part

__all__ = ["consulted"]
