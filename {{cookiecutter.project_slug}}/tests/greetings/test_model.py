import pytest

from {{ cookiecutter.package_name }}.greetings.model import Greeting
from {{ cookiecutter.package_name }}.runtime.http.handler import Problem


def test_a_greeting_says_hello() -> None:
    assert Greeting(name="Ada").message == "Hello, Ada!"


def test_a_greeting_says_what_it_is_told() -> None:
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
def test_data_that_is_no_greeting_is_refused(data: object, pointer: str) -> None:
    with pytest.raises(Problem) as caught:
        Greeting.of(data)
    assert caught.value.status_code == 422
    assert [error["pointer"] for error in caught.value.errors or ()] == [pointer]
