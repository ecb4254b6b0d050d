from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, HttpUrl, PostgresDsn, RedisDsn, SecretStr, ValidationError
from runtime import settings as settings_module
from runtime.errors import SettingsError
from runtime.settings import Settings

from .apps.orders.settings import Settings as OrdersSettings

API_KEY = "correct-horse-battery-staple"
CPUS = 5


@pytest.fixture(autouse=True)
def _five_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "usable_cpus", lambda: CPUS)


@pytest.fixture
def price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only setting that the sample service requires."""
    set_variables(monkeypatch, {"price_list": "https://example.com/prices"})


def set_variables(monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"APP_{name.upper()}", str(value))


def errors(cls: type[Settings] = Settings) -> list[str]:
    """Return the lines of the error, without its title."""
    with pytest.raises(SettingsError) as caught:
        cls.load()
    title, *lines = str(caught.value).splitlines()
    assert title == "Bad settings:"
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


def test_defaults() -> None:
    settings = Settings.load()
    assert (settings.address, settings.port) == (ip_address("127.0.0.1"), 8000)
    assert (settings.admin_address, settings.admin_port) == (ip_address("127.0.0.1"), 9000)
    assert (settings.workers, settings.port_per_worker) == (1, False)
    assert (settings.start_timeout, settings.hang_timeout) == (60, 30)
    assert settings.trusted_proxies == ()
    assert settings.debug is False


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "1234")
    assert Settings.load().port == 1234


def test_settings_are_read_from_the_env_file() -> None:
    Path(".env").write_text("APP_PORT=1234\n")
    assert Settings.load().port == 1234


def test_environment_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("APP_PORT=1234\nAPP_ADMIN_PORT=2345\n")
    monkeypatch.setenv("APP_PORT", "4321")
    settings = Settings.load()
    assert (settings.port, settings.admin_port) == (4321, 2345)


def test_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("APP_ADMIN_PORT=\n")
    set_variables(monkeypatch, {"port": "", "log_file": ""})
    settings = Settings.load()
    assert (settings.port, settings.admin_port, settings.log_file) == (8000, 9000, None)


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.load().__setattr__("port", 1)


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_TRUSTED_PROXIES", "10.0.0.1, 192.168.0.0/16,::1,")
    expected = (ip_network("10.0.0.1"), ip_network("192.168.0.0/16"), ip_network("::1"))
    assert Settings.load().trusted_proxies == expected


def test_cors_origins_are_exact_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "https://App.example, http://localhost:3000,http://[::1]:8080,"
    monkeypatch.setenv("APP_CORS_ORIGINS", value)
    expected = ("https://app.example", "http://localhost:3000", "http://[::1]:8080")
    assert Settings.load().cors_origins == expected
    variables = Settings.load().as_variables()
    assert (
        variables["APP_CORS_ORIGINS"]
        == "https://app.example,http://localhost:3000,http://[::1]:8080"
    )


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*.app.example",
        "null",
        "app.example",
        "https://app.example/",
        "https://app.example/path",
        "https://app.example?x",
        "https://ada:hunter2@app.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example:",
        "https://app.example:http",
        "https://äpp.example",
        "https://app.example https://other.example",
        "ftp://app.example",
        "https://",
    ],
)
def test_what_is_not_an_origin_is_refused(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_CORS_ORIGINS", f"https://good.example,{origin}")
    [line] = errors()
    assert line.startswith("APP_CORS_ORIGINS: '")
    assert "is not an origin such as https://app.example: " in line
    assert "hunter2" not in line


def test_log_level_may_be_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_LOG_LEVEL", "WARNING")
    assert Settings.load().log_level == "warning"


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), ("3", 3), ("256", 256), ("auto", CPUS), ("Auto", CPUS)]
)
def test_workers_are_a_number_or_one_per_cpu(
    value: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_WORKERS", value)
    assert Settings.load().workers == expected


@pytest.mark.parametrize("value", ["0", "1", "2.5"])
def test_hang_timeout_is_0_or_at_least_1(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_HANG_TIMEOUT", value)
    assert Settings.load().hang_timeout == float(value)


def test_all_invalid_settings_are_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    invalid = {
        "drain_timeout": -1,
        "log_level": "loud",
        "port": "eighty",
        "trusted_proxies": "10.0.0.1/8",
    }
    set_variables(monkeypatch, invalid | {"threads": 4})
    names = sorted(line.partition(":")[0] for line in errors())
    assert names == [f"APP_{name.upper()}" for name in invalid]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADDRESS", "localhost"),
        ("PORT", "-1"),
        ("WORKERS", "0"),
        ("WORKERS", "-1"),
        ("WORKERS", "257"),
        ("WORKERS", "1.5"),
        ("WORKERS", "automatic"),
        ("WORKERS", "a lot"),
        ("PORT_PER_WORKER", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("DRAIN_DELAY", "nan"),
        ("START_TIMEOUT", "0"),
        ("START_TIMEOUT", "soon"),
        ("HANG_TIMEOUT", "-1"),
        ("HANG_TIMEOUT", "0.5"),
        ("HANG_TIMEOUT", "nan"),
        ("HANG_TIMEOUT", "86401"),
        ("IDLE_TIMEOUT", "0"),
        ("MAX_BODY_SIZE", "0"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("THREADS", "0"),
        ("DEBUG", "maybe"),
    ],
)
def test_invalid_value_is_refused_and_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"APP_{name}", value)
    [line] = errors()
    assert line.startswith(f"APP_{name}: ")
    assert line.endswith(f", got '{value}'")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PORT", "70000", "input should be less than or equal to 65535"),
        ("WORKERS", "many", "must be a whole number or auto"),
    ],
)
def test_error_says_what_is_wrong(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"APP_{name}", value)
    assert errors() == [f"APP_{name}: {reason}, got '{value}'"]


def test_public_and_admin_port_may_both_be_0(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"port": 0, "admin_port": 0})
    settings = Settings.load()
    assert (settings.port, settings.admin_port) == (0, 0)


@pytest.mark.parametrize(
    "given",
    [
        {"port": 9001, "workers": 3},
        {"port": 8997, "workers": 3},
        {"port": 65533, "workers": 3},
        {"port": 65535, "workers": 3, "port_per_worker": False},
        {"port": 0, "workers": 3, "port_per_worker": False},
        {"port": 8998, "workers": 3, "port_per_worker": False},
        {"port": 8998, "workers": 3, "admin_port": 0},
    ],
)
def test_ports_of_workers_that_are_possible(
    given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, {"port_per_worker": True} | given)
    assert Settings.load().port_per_worker is given.get("port_per_worker", True)


@pytest.mark.parametrize(
    ("given", "name", "reason"),
    [
        (
            {"port": 9000, "port_per_worker": False},
            "ADMIN_PORT",
            "must differ from APP_PORT and from the ports of the workers",
        ),
        ({"port": 0}, "PORT_PER_WORKER", "needs a number as APP_PORT that is not 0"),
        ({"port": 65534}, "PORT_PER_WORKER", "needs ports up to 65536, but the last one is 65535"),
        ({"port": 65500, "workers": 99}, "PORT_PER_WORKER", "needs ports up to 65598, but"),
        ({"port": 8998}, "ADMIN_PORT", "must differ from APP_PORT and from the ports"),
        ({"port": 9000}, "ADMIN_PORT", "must differ from APP_PORT and from the ports"),
    ],
)
def test_impossible_ports_are_refused(
    given: dict[str, object], name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, {"workers": 3, "port_per_worker": True} | given)
    [line] = errors()
    assert line.startswith(f"APP_{name}: {reason}")


def test_invalid_port_causes_no_further_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"port": "eighty", "workers": 3, "port_per_worker": True})
    [line] = errors()
    assert line.startswith("APP_PORT: ")


@pytest.mark.parametrize("password", ["hunter2", "hunter2@home", "hunter2/3"])
def test_credentials_of_a_url_are_not_shown(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", f"postgres://ada:{password}@db/orders")
    [line] = errors()
    assert line.startswith("APP_PORT: ")
    assert line.endswith("db/orders'")
    assert "hunter2" not in line
    assert "home" not in line


@pytest.mark.parametrize(
    "value", ["ada:hunter2@db", "http:/ada:hunter2@db", "http://db?key=hunter2"]
)
def test_secret_in_the_wrong_variable_is_not_shown(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PORT", value)
    [line] = errors()
    assert line.startswith("APP_PORT: ")
    assert "hunter2" not in line


def test_env_file_that_is_not_text_is_an_error() -> None:
    Path(".env").write_bytes(b"APP_PORT=\xff\n")
    [line] = errors()
    assert line.startswith(".env cannot be read: ")


def test_malformed_lines_of_the_env_file_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text('APP_THREADS=2\nnonsense here\nAPP_PORT="8001\n')
    monkeypatch.setenv("APP_PORT", "eighty")
    second, third, port = errors()
    assert second == ".env, line 2: not of the form NAME=value"
    assert third == ".env, line 3: not of the form NAME=value"
    assert port.startswith("APP_PORT: ")


def test_typo_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("APP_DRAIN_TIMEOOT=3\n")
    monkeypatch.setenv("APP_PROT", "80")
    assert Settings.unknown_variables() == [
        "APP_DRAIN_TIMEOOT is not a setting, did you mean APP_DRAIN_TIMEOUT?",
        "APP_PROT is not a setting, did you mean APP_PORT?",
    ]
    assert Settings.load().port == 8000


def test_unknown_variable_without_similar_name_gets_no_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_XYZ", "1")
    assert Settings.unknown_variables() == ["APP_XYZ is not a setting"]


def test_known_and_foreign_variables_are_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "80")
    monkeypatch.setenv("app_threads", "2")
    monkeypatch.setenv("HAPPY_PROT", "80")
    assert Settings.unknown_variables() == []


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, []),
        ({"threads": 3, "log_level": "debug", "drain_timeout": 3, "hang_timeout": 3}, []),
        ({"port": 8001, "workers": 7}, ["APP_PORT", "APP_WORKERS"]),
        ({"port_per_worker": True}, ["APP_PORT_PER_WORKER"]),
        ({"address": "::1", "admin_address": "::1"}, ["APP_ADDRESS", "APP_ADMIN_ADDRESS"]),
        ({"admin_port": 9001, "debug": True}, ["APP_ADMIN_PORT", "APP_DEBUG"]),
        ({"log_file": "log", "log_format": "text"}, ["APP_LOG_FILE", "APP_LOG_FORMAT"]),
    ],
)
def test_some_changes_require_a_restart(
    given: dict[str, object], changed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Settings.load()
    set_variables(monkeypatch, given)
    assert set(before.restart_required(Settings.load())) == set(changed)


# What follows is about the settings of a service, which has fields of its own.


@pytest.mark.usefixtures("price_list")
def test_own_fields_are_read_like_those_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://db/orders")
    set_variables(
        monkeypatch,
        {
            "api_key": API_KEY,
            "currencies": '["EUR", "SEK"]',
            "warehouse": '{"city": "Riga", "door_code": 7}',
            "port": 8001,
        },
    )
    settings = OrdersSettings.load()
    assert str(settings.price_list) == "https://example.com/prices"
    assert settings.api_key
    assert settings.api_key.get_secret_value() == API_KEY
    assert settings.currencies == ["EUR", "SEK"]
    assert settings.warehouse
    assert (settings.warehouse.city, settings.warehouse.door_code) == ("Riga", 7)
    assert str(settings.database) == "postgres://db/orders"
    assert settings.port == 8001


@pytest.mark.usefixtures("price_list")
def test_own_fields_are_known_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"api_key": API_KEY, "discuont": 1})
    hint = "APP_DISCUONT is not a setting, did you mean APP_DISCOUNT?"
    assert OrdersSettings.unknown_variables() == [hint]


@pytest.mark.usefixtures("price_list")
def test_own_fields_require_no_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = OrdersSettings.load()
    set_variables(monkeypatch, {"discount": 0.5, "port": 8001})
    assert before.restart_required(OrdersSettings.load()) == ["APP_PORT"]


def test_missing_value_is_an_error_that_shows_no_other_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, {"api_key": API_KEY, "carrier": "hunter2"})
    assert errors(OrdersSettings) == ["APP_PRICE_LIST: is required and has no default"]


@pytest.mark.usefixtures("price_list")
def test_error_of_a_field_validator_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"discount": 2, "port": 70000, "carrier": "strike"})
    assert sorted(errors(OrdersSettings)) == [
        "APP_CARRIER: the warehouse is on strike",
        "APP_DISCOUNT: must be below 1, got '2'",
        "APP_PORT: input should be less than or equal to 65535, got '70000'",
    ]


@pytest.mark.usefixtures("price_list")
def test_error_of_a_model_validator_is_its_message_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"api_key": API_KEY, "min_items": 5, "max_items": 4})
    assert errors(OrdersSettings) == ["APP_MIN_ITEMS must not exceed APP_MAX_ITEMS"]


@pytest.mark.usefixtures("price_list")
def test_invalid_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_API_KEY", "hunter2")
    [line] = errors(OrdersSettings)
    assert line.startswith("APP_API_KEY: value should have at least 20 items")
    assert "hunter2" not in line


def test_acronym_at_the_start_of_a_message_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PRICE_LIST", "ftp://example.com")
    expected = "APP_PRICE_LIST: URL scheme should be 'http' or 'https'"
    assert errors(OrdersSettings) == [expected]


@pytest.mark.usefixtures("price_list")
def test_invalid_part_of_a_structure_is_named_but_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_WAREHOUSE", '{"door_code": "hunter2"}')
    assert errors(OrdersSettings) == [
        "APP_WAREHOUSE, city: field required",
        "APP_WAREHOUSE, door_code: input should be a valid integer,"
        " unable to parse string as an integer",
    ]


@pytest.mark.usefixtures("price_list")
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("CURRENCIES", "hunter2", "is not valid JSON"),
        ("CURRENCIES", '{"a": "hunter2"}', "input should be a valid list"),
        ("WAREHOUSE", '["hunter2"]', "input should be a valid dictionary"),
    ],
)
def test_wrong_structure_is_an_error_without_its_value(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"APP_{name}", value)
    [line] = errors(OrdersSettings)
    assert line.startswith(f"APP_{name}: {reason}")
    assert "hunter2" not in line


@pytest.mark.usefixtures("price_list")
def test_variable_with_a_name_of_its_own_is_named_in_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://ada:hunter2@db")
    [line] = errors(OrdersSettings)
    assert line.startswith("DATABASE_URL: URL scheme should be ")
    assert "hunter2" not in line


@pytest.mark.usefixtures("price_list")
def test_as_variables_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://ada:hunter2@db/orders")
    monkeypatch.setenv("APP_API_KEY", API_KEY)
    variables = OrdersSettings.load().as_variables()
    assert variables["APP_API_KEY"] == "**********"
    assert variables["DATABASE_URL"] == "postgres://***@db/orders"


@pytest.mark.usefixtures("price_list")
def test_as_variables_has_the_form_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(
        monkeypatch,
        {
            "trusted_proxies": "10.0.0.0/8, ::1",
            "debug": "TRUE",
            "log_file": "/Logs/Service.log",
            "drain_timeout": 25,
            "currencies": '["EUR", "SEK"]',
        },
    )
    variables = OrdersSettings.load().as_variables()
    assert list(variables)[:2] == ["APP_ADDRESS", "APP_PORT"]
    expected = {
        "APP_TRUSTED_PROXIES": "10.0.0.0/8,::1/128",
        "APP_DEBUG": "true",
        "APP_LOG_FILE": "/Logs/Service.log",
        "APP_DRAIN_TIMEOUT": "25",
        "APP_CURRENCIES": '["EUR", "SEK"]',
        "APP_DISCOUNT": "0.25",
        "APP_PRICE_LIST": "https://example.com/prices",
        "APP_WAREHOUSE": "",
    }
    assert {name: variables[name] for name in expected} == expected
    assert len(variables) == len(OrdersSettings.model_fields)


class Token(SecretStr):
    """A secret type of the service's own."""


class SecretiveSettings(Settings):
    token: Token | None = None
    dsn: PostgresDsn | None = None
    servers: list[RedisDsn] = []  # noqa: RUF012 - pydantic copies it
    page: HttpUrl | None = None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token", 1000 * "hunter2"),
        ("dsn", "postgres:/u:hunter2/x"),
        ("dsn", "host=db password=hunter2"),
        ("page", "hunter2"),
    ],
)
def test_invalid_text_or_url_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    class Limited(SecretiveSettings):
        token: Annotated[Token, Field(max_length=10)] | None = None

    set_variables(monkeypatch, {name: value})
    [line] = errors(Limited)
    assert line.startswith(f"APP_{name.upper()}: ")
    assert "hunter2" not in line


def test_credentials_and_queries_of_urls_are_masked() -> None:
    variables = SecretiveSettings(
        dsn=PostgresDsn("postgres://ada:hunter2@db/x?sslpassword=hunter2"),
        servers=[RedisDsn("redis://:hunter2@r:6379/0"), RedisDsn("redis://:hunter2@s:6379/0")],
        page=HttpUrl("https://h.example/x?api_key=hunter2"),
    ).as_variables()
    assert "hunter2" not in "".join(variables.values())
    assert variables["APP_PAGE"] == "https://h.example/x?***"
    assert variables["APP_SERVERS"] == '["redis://***@r:6379/0", "redis://***@s:6379/0"]'
