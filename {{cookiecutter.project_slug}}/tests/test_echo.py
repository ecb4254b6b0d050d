from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }}.app import make_app
from {{ cookiecutter.package_name }}.runtime.settings import Settings

from .support import Client, close, serving, until


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    settings = Settings(max_body_size=1000)
    async with serving(make_app(settings), settings) as client:
        yield client
        await until(lambda: not client.app.websockets)


async def test_text_comes_back_as_text_and_bytes_as_bytes(client: Client) -> None:
    echo = await client.websocket("/echo")
    for message in "caf\xe9", b"\x00\xff", "", 1000 * "x":
        await echo.write_message(message, binary=isinstance(message, bytes))
        assert await echo.read_message() == message
    await close(echo)


async def test_a_message_that_is_too_large_ends_it(client: Client) -> None:
    echo = await client.websocket("/echo")
    await echo.write_message(1001 * "x")
    assert await echo.read_message() is None
    assert echo.close_code == 1009
    echo.close()
