from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, SecretStr, ValidationError

from runtime import settings
from runtime.settings import SettingsError, load


def complaint() -> str:
    with pytest.raises(SettingsError) as caught:
        load()
    return str(caught.value)


def test_without_settings_the_defaults_hold() -> None:
    values = load()
    assert (values.address, values.port) == (ip_address("127.0.0.1"), 8000)
    assert (values.admin_address, values.admin_port) == (ip_address("127.0.0.1"), 9000)
    assert values.trusted_proxies == ()
    assert values.debug is False


def test_a_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "1234")
    assert load().port == 1234


def test_a_setting_comes_from_the_env_file() -> None:
    Path(".env").write_text("APP_PORT=1234\n")
    assert load().port == 1234


def test_the_environment_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("APP_PORT=1234\nAPP_ADMIN_PORT=2345\n")
    monkeypatch.setenv("APP_PORT", "4321")
    assert (load().port, load().admin_port) == (4321, 2345)


def test_empty_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("APP_ADMIN_PORT=\n")
    monkeypatch.setenv("APP_PORT", "")
    monkeypatch.setenv("APP_LOG_FILE", "")
    values = load()
    assert (values.port, values.admin_port, values.log_file) == (8000, 9000, None)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().__setattr__("port", 1)


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_TRUSTED_PROXIES", "10.0.0.1, 192.168.0.0/16,::1,")
    expected = (ip_network("10.0.0.1"), ip_network("192.168.0.0/16"), ip_network("::1"))
    assert load().trusted_proxies == expected


def test_the_log_level_may_be_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_LOG_LEVEL", "WARNING")
    assert load().log_level == "warning"


def test_every_bad_key_is_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "eighty")
    monkeypatch.setenv("APP_LOG_LEVEL", "loud")
    monkeypatch.setenv("APP_DRAIN_TIMEOUT", "-1")
    monkeypatch.setenv("APP_TRUSTED_PROXIES", "10.0.0.1/8")
    monkeypatch.setenv("APP_THREADS", "4")
    title, *lines = complaint().splitlines()
    assert title == "Bad settings:"
    assert sorted(line.partition(":")[0] for line in lines) == [
        "  APP_DRAIN_TIMEOUT",
        "  APP_LOG_LEVEL",
        "  APP_PORT",
        "  APP_TRUSTED_PROXIES",
    ]


def test_a_complaint_says_what_is_wrong_with_which_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "70000")
    assert "  APP_PORT: input should be less than or equal to 65535, got '70000'" in complaint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADDRESS", "localhost"),
        ("PORT", "-1"),
        ("LOG_FORMAT", "xml"),
        ("DRAIN_DELAY", "nan"),
        ("IDLE_TIMEOUT", "0"),
        ("MAX_BODY_SIZE", "0"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("THREADS", "0"),
        ("DEBUG", "maybe"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"APP_{name}", value)
    assert f"APP_{name}: " in complaint()


def test_the_ports_must_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "9000")
    assert "APP_ADMIN_PORT: must differ from APP_PORT" in complaint()


def test_both_ports_may_be_free_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "0")
    monkeypatch.setenv("APP_ADMIN_PORT", "0")
    assert (load().port, load().admin_port) == (0, 0)


def test_a_bad_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithSecret(settings.Settings):
        token: Annotated[SecretStr, Field(min_length=20)]

    monkeypatch.setattr(settings, "Settings", WithSecret)
    monkeypatch.setenv("APP_TOKEN", "hunter2")
    assert "APP_TOKEN: " in complaint()
    assert "hunter2" not in complaint()


@pytest.mark.parametrize("password", ["hunter2", "hunter2@home", "hunter2/3"])
def test_credentials_in_a_url_are_not_shown(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", f"postgres://ada:{password}@db/orders")
    assert "APP_PORT: " in complaint()
    assert "db/orders" in complaint()
    assert "hunter2" not in complaint()
    assert "home" not in complaint()


@pytest.mark.parametrize(
    "value", ["ada:hunter2@db", "http:/ada:hunter2@db", "http://db?key=hunter2"]
)
def test_a_secret_under_the_wrong_key_is_not_shown(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PORT", value)
    assert "APP_PORT: " in complaint()
    assert "hunter2" not in complaint()


def test_an_env_file_that_is_no_text_is_a_bad_setting() -> None:
    Path(".env").write_bytes(b"APP_PORT=\xff\n")
    assert ".env cannot be read: " in complaint()


def test_a_misspelt_name_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("APP_DRAIN_TIMEOOT=3\n")
    monkeypatch.setenv("APP_PROT", "80")
    assert settings.unknown_names() == [
        "APP_DRAIN_TIMEOOT is not a setting, did you mean APP_DRAIN_TIMEOUT?",
        "APP_PROT is not a setting, did you mean APP_PORT?",
    ]


def test_a_name_like_no_other_gets_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_XYZ", "1")
    assert settings.unknown_names() == ["APP_XYZ is not a setting"]


def test_known_and_foreign_names_get_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "80")
    monkeypatch.setenv("HAPPY_PROT", "80")
    assert settings.unknown_names() == []


def test_an_unknown_name_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PROT", "80")
    assert load().port == 8000


def test_a_line_that_is_no_setting_is_told() -> None:
    Path(".env").write_text('APP_THREADS=2\nnonsense here\nAPP_PORT="8001\n')
    with pytest.raises(SettingsError) as caught:
        load()
    assert ".env, line 2" in str(caught.value)
    assert ".env, line 3" in str(caught.value)
    assert ".env, line 1" not in str(caught.value)
