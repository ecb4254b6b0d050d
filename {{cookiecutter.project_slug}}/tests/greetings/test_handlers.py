from http import HTTPStatus

from {{ cookiecutter.package_name }}.runtime.testing import (
    Client,
    response_json,
    response_problem,
)


async def test_root_greets_the_world(client: Client) -> None:
    response = await client.get("/")
    assert response.code == HTTPStatus.OK
    assert response_json(response) == {"message": "Hello, world!"}


async def test_greeting_by_name(client: Client) -> None:
    response = await client.get("/greetings/Ada%20Lovelace")
    assert response.code == HTTPStatus.OK
    assert response_json(response) == {"message": "Hello, Ada Lovelace!"}


async def test_name_that_is_too_long_is_rejected(client: Client) -> None:
    response = await client.get("/greetings/" + 101 * "A")
    assert response.code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response_problem(response)["errors"][0]["pointer"] == "/name"


async def test_posted_greeting_is_created(client: Client) -> None:
    response = await client.post("/greetings", {"name": "Ada", "salutation": "Good morning"})
    assert response.code == HTTPStatus.CREATED
    assert response_json(response) == {"message": "Good morning, Ada!"}


async def test_posted_greeting_without_a_name_is_rejected(client: Client) -> None:
    response = await client.post("/greetings", {"salutation": "Good morning"})
    assert response.code == HTTPStatus.UNPROCESSABLE_ENTITY
    expected = [{"pointer": "/name", "detail": "Field required"}]
    assert response_problem(response)["errors"] == expected
