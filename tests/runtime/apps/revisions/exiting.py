"""A version that exits by itself as soon as the test releases it."""

import os
import threading
import time

from tests.runtime.support.sample_app import is_released

VERSION = "exiting"


def exit_when_released() -> None:
    while not is_released():
        time.sleep(0.005)
    os._exit(0)


def prepare() -> None:
    threading.Thread(target=exit_when_released, daemon=True).start()


async def connect() -> None: ...
