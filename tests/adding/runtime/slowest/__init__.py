"""The slowest requests of each process, in its log.

May import `extensions`, `http` and what is below them. Begin with `extension.Slowest`.
"""

from .extension import Slowest

__all__ = ["Slowest"]
