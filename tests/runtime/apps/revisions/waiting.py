"""A version that is created only once the test releases it."""

import time

from tests.runtime.support.sample_app import is_released

VERSION = "waiting"


def prepare() -> None:
    while not is_released():
        time.sleep(0.005)


async def connect() -> None: ...
