"""The third version."""

VERSION = "third"


def prepare() -> None: ...


async def connect() -> None: ...
