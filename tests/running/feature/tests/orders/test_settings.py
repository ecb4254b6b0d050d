import pytest

from tornado_service.__main__ import main
from tornado_service.runtime import SettingsError
from tornado_service.settings import Settings


def test_defaults() -> None:
    settings = Settings.load()
    assert (settings.currency, settings.max_quantity, settings.orders_key) == ("EUR", 100, None)


def test_largest_quantity_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_MAX_QUANTITY", "1")
    assert Settings.load().max_quantity == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("APP_MAX_QUANTITY", "0"),
        ("APP_MAX_QUANTITY", "many"),
        ("APP_CURRENCY", "euro"),
    ],
)
def test_bad_value_is_reported(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        Settings.load()


def test_key_is_masked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("APP_ORDERS_KEY", "open sesame")
    assert main(["check"]) == 0
    shown = capsys.readouterr().out
    assert "APP_ORDERS_KEY" in shown
    assert "open sesame" not in shown
