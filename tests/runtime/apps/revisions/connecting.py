"""A version that opens its resources only once the test releases it."""

import asyncio
import logging

from tests.runtime.support.sample_app import is_released

VERSION = "connecting"


def prepare() -> None: ...


async def connect() -> None:
    logging.info("connecting")
    while not is_released():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
