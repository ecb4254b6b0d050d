"""What the files of a new feature contain."""

from string import Template

PACKAGE = {
    "__init__.py": '''\
"""$title. `app.py` lists the routes."""

from ..runtime import Route
from .handlers import CreateItem, ShowItem

routes = [
    Route("$path", CreateItem),
    Route("$path/{name}", ShowItem),
]
''',
    "handlers.py": '''\
"""$title over HTTP."""

from ..runtime import Handler
from .model import Item


class CreateItem(Handler):
    """``POST $path``"""

    def post(self) -> None:
        item = Item.from_request(self.request)
        self.reply(item.model_dump(), status=201)


class ShowItem(Handler):
    """``GET $path/{name}``"""

    def get(self, name: str) -> None:
        self.reply(Item.parse({"name": name}).model_dump())
''',
    "model.py": '''\
"""The request body of $words."""

from pydantic import Field

from ..runtime import Body


class Item(Body):
    """A name and a quantity."""

    name: str = Field(min_length=1, max_length=100)
    quantity: int = Field(default=1, ge=1)
''',
}
TESTS = {
    "__init__.py": "",
    "test_handlers.py": """\
from http import HTTPStatus

from $package.runtime.testing import Client, response_json, response_problem


async def test_posted_item_is_created(client: Client) -> None:
    response = await client.post("$path", {"name": "tea", "quantity": 2})
    assert response.code == HTTPStatus.CREATED
    assert response_json(response) == {"name": "tea", "quantity": 2}


async def test_posted_item_without_a_name_is_rejected(client: Client) -> None:
    response = await client.post("$path", {"quantity": 2})
    assert response.code == HTTPStatus.UNPROCESSABLE_ENTITY
    expected = [{"pointer": "/name", "detail": "Field required"}]
    assert response_problem(response)["errors"] == expected


async def test_item_by_name(client: Client) -> None:
    response = await client.get("$path/green%20tea")
    assert response.code == HTTPStatus.OK
    assert response_json(response) == {"name": "green tea", "quantity": 1}


async def test_name_that_is_too_long_is_rejected(client: Client) -> None:
    response = await client.get("$path/" + 101 * "A")
    assert response.code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response_problem(response)["errors"][0]["pointer"] == "/name"
""",
    "test_model.py": """\
import pytest

from $package.$name.model import Item
from $package.runtime import Problem


def test_quantity_is_one_by_default() -> None:
    assert Item.parse({"name": "tea"}) == Item(name="tea", quantity=1)


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": 101 * "A"}, "/name"),
        ({"name": "tea", "quantity": 0}, "/quantity"),
        ({"name": "tea", "quantity": "two"}, "/quantity"),
        ({"name": "tea", "quantitty": 1}, "/quantitty"),
    ],
)
def test_invalid_data_is_rejected(data: object, pointer: str) -> None:
    with pytest.raises(Problem) as caught:
        Item.parse(data)
    assert caught.value.status_code == 422
    assert [error["pointer"] for error in caught.value.errors or ()] == [pointer]
""",
}


def path_of(name: str) -> str:
    """Return the path of a feature's requests: ``/order-items`` for order_items."""
    return "/" + name.replace("_", "-")


def rendered(files: dict[str, str], package: str, name: str) -> dict[str, bytes]:
    """Return the contents of `PACKAGE` or `TESTS` for a feature, by file name."""
    words = name.replace("_", " ")
    values = {
        "package": package,
        "name": name,
        "path": path_of(name),
        "words": words,
        "title": words.capitalize(),
    }
    return {file: Template(text).substitute(values).encode() for file, text in files.items()}
