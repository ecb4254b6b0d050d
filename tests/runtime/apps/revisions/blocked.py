"""A version that never becomes ready."""

import threading

VERSION = "blocked"


def prepare() -> None:
    threading.Event().wait()


async def connect() -> None: ...
