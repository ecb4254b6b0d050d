import json
from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }}.app import make_app
from {{ cookiecutter.package_name }}.runtime.settings import Settings

from ..support import Client, serving


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    settings = Settings()
    async with serving(make_app(settings), settings) as client:
        yield client


async def test_the_root_greets_the_world(client: Client) -> None:
    response = await client.get("/")
    assert response.code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(response.body) == {"message": "Hello, world!"}


async def test_somebody_is_greeted_by_name(client: Client) -> None:
    response = await client.get("/greetings/Ada%20Lovelace")
    assert response.code == 200
    assert json.loads(response.body) == {"message": "Hello, Ada Lovelace!"}


async def test_a_name_that_is_too_long_is_refused(client: Client) -> None:
    response = await client.get("/greetings/" + 101 * "A")
    assert response.code == 422
    assert json.loads(response.body)["errors"][0]["pointer"] == "/name"


async def test_a_posted_greeting_is_created(client: Client) -> None:
    response = await client.post("/greetings", {"name": "Ada", "salutation": "Good morning"})
    assert response.code == 201
    assert json.loads(response.body) == {"message": "Good morning, Ada!"}


async def test_a_posted_greeting_without_a_name_is_refused(client: Client) -> None:
    response = await client.post("/greetings", {"salutation": "Good morning"})
    assert response.code == 422
    expected = [{"pointer": "/name", "detail": "Field required"}]
    assert json.loads(response.body)["errors"] == expected
