"""A service with metrics of its own, in the layout of a generated project.

A test copies it to a folder, and the runtime into it.
"""

from .stock import LEAVES

__all__ = ["LEAVES"]
__version__ = "1.0"
