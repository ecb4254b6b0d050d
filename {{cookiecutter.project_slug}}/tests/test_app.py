"""The service itself, whatever its routes are; most other tests talk to a stand-in."""

import signal
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from {{ cookiecutter.package_name }}.app import make_app
from {{ cookiecutter.package_name }}.runtime.settings import Settings

from .conftest import Starter
from .support import SERVICE, Client, Wire, problem, serving


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    settings = Settings()
    async with serving(make_app(settings), settings) as client:
        yield client


async def test_an_unknown_path_is_a_problem(client: Client) -> None:
    response = await client.get("/nowhere")
    assert response.code == HTTPStatus.NOT_FOUND
    problem(response)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/workers"])
async def test_the_public_port_knows_nothing_of_the_admin_port(client: Client, path: str) -> None:
    assert (await client.get(path)).code == HTTPStatus.NOT_FOUND


async def test_it_starts_answers_and_stops(start: Starter) -> None:
    process = start(SERVICE)
    port, admin_port = await process.ports()
    async with Wire(port) as wire, Wire(admin_port) as admin:
        assert (await wire.get("/nowhere")).json()["status"] == HTTPStatus.NOT_FOUND
        assert (await admin.get("/readyz")).json() == {"ready": True}
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    assert process.messages()[-1] == "stopped"
