"""A version that starts in one worker only."""

from pathlib import Path

VERSION = "unique"


def prepare() -> None:
    Path("unique").rmdir()


async def connect() -> None: ...
