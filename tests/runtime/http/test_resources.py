"""Resources: opened for the handlers, found by their keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.resources import MAX_NAME_LENGTH, Resource, Resources
from runtime.http.routing import Route
from runtime.settings import Settings
from runtime.testing import Record, response_json, serving


class OwnSettings(Settings):
    currency: str = "EUR"


@asynccontextmanager
async def open_prices(settings: OwnSettings) -> AsyncIterator[dict[str, str]]:
    yield {"cup": f"3 {settings.currency}"}


PRICES = Resource("prices", open_prices)


class ShowPrice(Handler):
    config: OwnSettings

    def initialize(self) -> None:
        self._price = self.resources[PRICES]["cup"]

    def get(self) -> None:
        self.reply({"price": self._price, "currency": self.config.currency})


class UsesResource(Handler):
    def get(self) -> None:
        self.reply(self.resources[PRICES])


async def test_handler_reaches_settings_and_resources() -> None:
    settings = OwnSettings(currency="CHF")
    app = Application(settings, [Route("/", ShowPrice)], resources=[PRICES])
    async with serving(app) as client:
        response = await client.get("/")
    assert response_json(response) == {"price": "3 CHF", "currency": "CHF"}
    assert app.config is settings


async def test_resource_that_is_not_open_is_an_error_that_says_what_to_do(
    log_records: list[Record],
) -> None:
    async with serving(Application(OwnSettings(), [Route("/", UsesResource)])) as client:
        assert (await client.get("/")).code == 500
    messages = [record.get("exception.message") for record in log_records]
    assert "resource 'prices' is not open: give it to Application(resources=[...])" in messages


def test_resource_is_found_by_its_key_not_by_its_name() -> None:
    resources = Resources()
    resources[PRICES] = {"cup": "1"}
    assert resources[PRICES] == {"cup": "1"}
    with pytest.raises(LookupError, match="resource 'prices' is not open"):
        resources[Resource("prices", open_prices)]


async def ping(prices: dict[str, str]) -> None:
    assert prices


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ({"interval": 0}, "resource 'prices': interval must be positive: 0"),
        ({"timeout": -1.5}, "resource 'prices': timeout must be positive: -1.5"),
        ({"interval": float("nan")}, "resource 'prices': interval must be positive: nan"),
        ({"timeout": float("inf")}, "resource 'prices': timeout must be positive: inf"),
    ],
)
def test_interval_and_timeout_of_a_check_are_validated(
    seconds: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Resource("prices", open_prices, check=ping, **seconds)


def test_name_of_a_check_is_bounded() -> None:
    name = "p" * MAX_NAME_LENGTH
    assert Resource(name, open_prices, check=ping).name == name
    Resource(f"{name}p", open_prices)
    with pytest.raises(ValueError, match="the name is longer than 100"):
        Resource(f"{name}p", open_prices, check=ping)


def test_names_of_checks_differ() -> None:
    unchecked, checked = (
        Resource("prices", open_prices),
        Resource("prices", open_prices, check=ping),
    )
    again = Resource("prices", open_prices, check=ping)
    app = Application(OwnSettings(), [], resources=[unchecked, unchecked, checked])
    assert app.declared_resources == (unchecked, unchecked, checked)
    with pytest.raises(ValueError, match="2 resources with a check have the name 'prices'"):
        Application(OwnSettings(), [], resources=[checked, again])
