"""The second version."""

VERSION = "second"


def prepare() -> None: ...


async def connect() -> None: ...
