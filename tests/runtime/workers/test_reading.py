"""Reading the settings of a service without importing its modules."""

import os
import sys
import threading
from pathlib import Path

import pytest
from runtime import ServiceInfo, Settings
from runtime.process.definition import ServiceDefinition
from runtime.workers import Prefork, reading
from runtime.workers.reading import read_settings

from tests.runtime.support.workers import APPS

PRICE_LIST = "https://example.com/prices"


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> ServiceDefinition:
    """A service with settings of its own, one of which is required."""
    monkeypatch.syspath_prepend(APPS)
    return ServiceDefinition(
        package="orders",
        info=ServiceInfo("orders", "1.0"),
        extensions=(),
        settings="orders.settings:Settings",
        app="orders.app:make_app",
    )


def test_settings_are_read_and_nothing_is_imported(
    orders: ServiceDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PRICE_LIST", PRICE_LIST)
    monkeypatch.setenv("APP_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    Path(".env").write_text("APP_WORKERS=3\nAPP_LOG_FILE=service.log\n")
    settings = Prefork().load_settings(orders)
    assert type(settings) is Settings
    assert settings == Settings()
    assert settings.workers == 3
    assert "orders.settings" not in sys.modules


def test_invalid_settings_are_not_read(orders: ServiceDefinition) -> None:
    assert read_settings(orders) is None


def test_settings_that_take_too_long_are_not_read(
    orders: ServiceDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServiceDefinition, "load_settings", lambda _: threading.Event().wait())
    monkeypatch.setattr(reading, "SETTINGS_TIMEOUT", 0.01)
    assert read_settings(orders) is None


def test_process_that_a_module_starts_does_not_delay_the_settings(
    orders: ServiceDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, release = os.pipe()

    def load(_: ServiceDefinition) -> Settings:
        # It has the pipe open until the test ends.
        if os.fork() == 0:
            os.close(release)
            os.read(released, 1)
            os._exit(0)
        return Settings(workers=3)

    monkeypatch.setattr(ServiceDefinition, "load_settings", load)
    settings = read_settings(orders)
    os.close(release)
    os.close(released)
    assert settings == Settings(workers=3)


def test_setting_of_another_type_is_not_read(
    orders: ServiceDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Settings.model_construct(**{**dict(Settings()), "workers": "as many as it takes"})
    monkeypatch.setattr(ServiceDefinition, "load_settings", lambda _: other)
    assert read_settings(orders) is None


def test_settings_are_not_read_without_another_process(
    orders: ServiceDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr("os.fork", refuse)
    assert read_settings(orders) is None
