"""A version that starts in one worker, and in the others only once the test releases them."""

import time
from pathlib import Path

from tests.runtime.support.sample_app import is_released

VERSION = "alone"


def prepare() -> None:
    try:
        Path("first").touch(exist_ok=False)
    except FileExistsError:
        while not is_released():
            time.sleep(0.005)


async def connect() -> None: ...
