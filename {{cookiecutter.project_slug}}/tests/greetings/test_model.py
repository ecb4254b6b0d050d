import pytest

from {{ cookiecutter.package_name }}.greetings.model import Greeting
from {{ cookiecutter.package_name }}.runtime import Problem


def test_greeting_says_hello() -> None:
    assert Greeting(name="Ada").message == "Hello, Ada!"


def test_salutation_can_be_chosen() -> None:
    assert Greeting(name="Ada", salutation="Good morning").message == "Good morning, Ada!"


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "A" * 101}, "/name"),
        ({"name": 7}, "/name"),
        ({"name": "Ada", "salutation": ""}, "/salutation"),
        ({"name": "Ada", "salutatoin": "Hi"}, "/salutatoin"),
        (["Ada"], ""),
    ],
)
def test_invalid_data_is_rejected(data: object, pointer: str) -> None:
    with pytest.raises(Problem) as caught:
        Greeting.parse(data)
    assert caught.value.status_code == 422
    assert [error["pointer"] for error in caught.value.errors or ()] == [pointer]
