"""A version that cannot start."""

VERSION = "broken"


def prepare() -> None:
    raise ValueError("broken")


async def connect() -> None: ...
