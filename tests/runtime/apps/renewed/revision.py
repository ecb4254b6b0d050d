"""The first version."""

VERSION = "first"


def prepare() -> None:
    """Run before the application is created."""


async def connect() -> None:
    """Run while the resources are opened."""
