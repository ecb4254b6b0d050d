"""Resources: opened for the handlers, found by their keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.resources import Resource, Resources
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
