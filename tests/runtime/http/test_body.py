"""JSON bodies: parsed, validated, and rejected with every error."""

from collections.abc import AsyncIterator

import pytest
from pydantic import Field, ValidationInfo, field_validator
from runtime.http.application import Application
from runtime.http.body import MAX_ERRORS, Body
from runtime.http.handler import Handler
from runtime.http.problem import Problem
from runtime.http.routing import Route
from runtime.settings import Settings
from runtime.testing import Client, Record, response_json, response_problem, serving

from ..support.access import access_lines


class Item(Body):
    sizes: list[int] = Field(max_length=3)


class Items(Handler):
    async def post(self) -> None:
        self.reply({"sizes": Item.from_request(self.request).sizes})


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(Application(Settings(), [Route("/items", Items)])) as client:
        yield client


async def test_json_is_parsed_and_returned(client: Client) -> None:
    response = await client.post("/items", {"sizes": [1, 2]})
    assert response.code == 200
    assert response_json(response) == {"sizes": [1, 2]}


async def test_media_type_may_have_parameters(client: Client) -> None:
    media_type = "Application/JSON; charset=utf-8"
    response = await client.post("/items", {"sizes": []}, Content_Type=media_type)
    assert response.code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/jsonp", "text/html"])
async def test_other_media_types_are_rejected(client: Client, media_type: str) -> None:
    response = await client.post("/items", {"sizes": []}, Content_Type=media_type)
    assert response.code == 415
    assert response_problem(response)["detail"].startswith("The body must be application/json")


async def test_compressed_body_is_rejected(client: Client) -> None:
    response = await client.post("/items", {"sizes": []}, Content_Encoding="gzip")
    assert response.code == 415
    response_problem(response)


@pytest.mark.parametrize("body", [b"", b"{", b"{'sizes': []}", b'{"sizes": [NaN]}', b"\xff"])
async def test_body_that_is_not_json_is_rejected(client: Client, body: bytes) -> None:
    response = await client.post("/items", body)
    assert response.code == 400
    assert response_problem(response)["detail"].startswith("The body is not JSON: ")


async def test_invalid_body_is_rejected_with_every_error(client: Client) -> None:
    response = await client.post("/items", {"sizes": [1, "x", None], "colour": "red"})
    assert response.code == 422
    errors = response_problem(response)["errors"]
    assert [error["pointer"] for error in errors] == ["/sizes/1", "/sizes/2", "/colour"]
    assert all(error["detail"] for error in errors)
    assert response_problem(response)["detail"]


async def test_first_errors_of_an_invalid_body_are_in_the_log(
    client: Client, log_records: list[Record]
) -> None:
    await client.post("/items", {"sizes": ["x"], **{f"{n}" + 1000 * "y": n for n in range(9)}})
    [line] = access_lines(log_records)
    assert "[/sizes/0: Input should be a valid integer" in line["reason"]
    assert line["reason"].count("y") < 1000


async def test_more_errors_than_the_limit_are_only_counted(client: Client) -> None:
    for count in MAX_ERRORS, MAX_ERRORS + 1:
        response = await client.post("/items", {"sizes": [], **{f"x{n}": 1 for n in range(count)}})
        assert response.code == 422
        body = response_problem(response)
        assert ("errors" in body) == (count == MAX_ERRORS)
        assert (str(count) in body.get("detail", "")) == (count > MAX_ERRORS)


async def test_pointers_escape_slash_and_tilde(client: Client) -> None:
    response = await client.post("/items", {"sizes": [], "a/b~c": 1})
    assert [error["pointer"] for error in response_problem(response)["errors"]] == ["/a~1b~0c"]


async def test_response_does_not_repeat_what_the_client_sent(client: Client) -> None:
    response = await client.post("/items", {"sizes": ["hunter2"]})
    assert response.code == 422
    assert b"hunter2" not in response.body


def test_parse_validates_any_data() -> None:
    assert Item.parse({"sizes": [1]}).sizes == [1]
    with pytest.raises(Problem) as caught:
        Item.parse({"sizes": "x"})
    assert caught.value.status_code == 422
    assert [error["pointer"] for error in caught.value.errors or []] == ["/sizes"]


class Limited(Body):
    size: int

    @field_validator("size")
    @classmethod
    def _is_in_the_limit(cls, size: int, info: ValidationInfo) -> int:
        if size > info.context["limit"]:
            raise ValueError("too large")
        return size


def test_validator_gets_the_context() -> None:
    assert Limited.parse({"size": 3}, context={"limit": 3}).size == 3
    with pytest.raises(Problem) as caught:
        Limited.parse({"size": 4}, context={"limit": 3})
    assert caught.value.errors == [{"pointer": "/size", "detail": "Value error, too large"}]
