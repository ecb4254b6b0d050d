"""A version that starts only if the test has released it before."""

from pathlib import Path

VERSION = "demanding"


def prepare() -> None:
    Path("released").read_bytes()


async def connect() -> None: ...
