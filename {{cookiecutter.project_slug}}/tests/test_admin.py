import json
from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }}.admin import make_admin
from {{ cookiecutter.package_name }}.settings import Settings

from .support import Client, Record, serving


@pytest.fixture
def reasons() -> list[str]:
    """Why the service is not ready; a test may change it."""
    return []


@pytest.fixture
async def admin(reasons: list[str]) -> AsyncIterator[Client]:
    settings = Settings()
    async with serving(make_admin(settings, lambda: reasons), settings) as client:
        yield client


@pytest.mark.parametrize("reason", [None, "starting", "draining"])
async def test_it_is_alive_ready_or_not(
    admin: Client, reasons: list[str], reason: str | None
) -> None:
    reasons += [reason] if reason else []
    response = await admin.get("/livez")
    assert (response.code, json.loads(response.body)) == (200, {"live": True})


async def test_a_service_that_is_ready_says_so(admin: Client) -> None:
    response = await admin.get("/readyz")
    assert (response.code, json.loads(response.body)) == (200, {"ready": True})


async def test_a_service_that_is_not_says_why(admin: Client, reasons: list[str]) -> None:
    reasons += ["starting", "no database"]
    response = await admin.get("/readyz")
    assert response.code == 503
    assert json.loads(response.body) == {"ready": False, "reasons": ["starting", "no database"]}


async def test_the_admin_port_knows_nothing_of_the_service(admin: Client) -> None:
    response = await admin.get("/items/cup")
    assert response.code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_probes_are_logged_at_level_debug(admin: Client, log: list[Record]) -> None:
    await admin.get("/readyz")
    [line] = [record for record in log if record["logger"] == "access"]
    assert (line["level"], line["url.path"]) == ("debug", "/readyz")


async def test_a_probe_that_finds_it_not_ready_is_no_error(
    admin: Client, reasons: list[str], log: list[Record]
) -> None:
    reasons += ["draining"]
    await admin.get("/readyz")
    assert [record["level"] for record in log if record["logger"] == "access"] == ["debug"]
