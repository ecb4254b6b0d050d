from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }}.app import make_app
from {{ cookiecutter.package_name }}.runtime.testing import (
    Client,
    serving,
)
from {{ cookiecutter.package_name }}.settings import Settings


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(make_app(Settings(max_body_size=1000))) as client:
        yield client


async def test_text_comes_back_as_text_and_bytes_as_bytes(client: Client) -> None:
    async with client.websocket("/echo") as echo:
        for message in "caf\xe9", b"\x00\xff", "", 1000 * "x":
            await echo.write_message(message, binary=isinstance(message, bytes))
            assert await echo.read_message() == message


async def test_message_that_is_too_large_closes_it(client: Client) -> None:
    async with client.websocket("/echo") as echo:
        await echo.write_message(1001 * "x")
        assert await echo.read_message() is None
        assert echo.close_code == 1009
