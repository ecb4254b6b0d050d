from http import HTTPStatus

import pytest

from .support import Client


@pytest.mark.parametrize("path", ["/", "/greetings/Ada"])
async def test_the_routes_of_the_service_answer(client: Client, path: str) -> None:
    assert (await client.get(path)).code == HTTPStatus.OK


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_the_public_port_knows_nothing_of_the_admin_port(client: Client, path: str) -> None:
    assert (await client.get(path)).code == HTTPStatus.NOT_FOUND
