import json
from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }}.admin import make_admin
from {{ cookiecutter.package_name }}.routing import Application, State
from {{ cookiecutter.package_name }}.settings import Settings

from .stand_in import make_app
from .support import Client, Record, serving


@pytest.fixture
def service() -> Application:
    return make_app(Settings())


@pytest.fixture
async def admin(service: Application) -> AsyncIterator[Client]:
    settings = Settings()
    async with serving(make_admin(settings, service), settings) as client:
        yield client


@pytest.mark.parametrize("state", State)
async def test_a_service_is_alive_in_every_state(
    admin: Client, service: Application, state: State
) -> None:
    service.state = state
    response = await admin.get("/livez")
    assert (response.code, json.loads(response.body)) == (200, {"live": True})


async def test_a_service_that_is_ready_says_so(admin: Client, service: Application) -> None:
    service.state = State.READY
    response = await admin.get("/readyz")
    assert (response.code, json.loads(response.body)) == (200, {"ready": True})


@pytest.mark.parametrize("state", [State.STARTING, State.DRAINING])
async def test_a_service_that_is_not_says_why(
    admin: Client, service: Application, state: State
) -> None:
    service.state = state
    response = await admin.get("/readyz")
    assert response.code == 503
    assert json.loads(response.body) == {"ready": False, "reasons": [state.name.lower()]}


def test_a_new_service_is_starting(service: Application) -> None:
    assert service.state is State.STARTING


async def test_the_admin_port_knows_nothing_of_the_service(admin: Client) -> None:
    response = await admin.get("/items/cup")
    assert response.code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_probes_are_logged_at_level_debug(
    admin: Client, service: Application, log: list[Record]
) -> None:
    service.state = State.READY
    await admin.get("/readyz")
    [line] = [record for record in log if record["logger"] == "access"]
    assert (line["level"], line["url.path"]) == ("debug", "/readyz")


async def test_a_probe_that_finds_it_not_ready_is_no_error(
    admin: Client, log: list[Record]
) -> None:
    await admin.get("/readyz")
    assert [record["level"] for record in log if record["logger"] == "access"] == ["debug"]
