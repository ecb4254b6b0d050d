import pytest

from runtime import settings
from runtime.settings import (
    SettingsError,
    Settings,
    restart_required,
    load,
)


@pytest.fixture(autouse=True)
def _five_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "usable_cpus", lambda: 5)


def complaints() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load()
    _, *lines = str(caught.value).splitlines()
    return lines


def test_without_settings_the_workers_share_a_port_and_are_watched() -> None:
    values = load()
    assert values.workers >= 1
    assert values.port_per_worker is False
    assert (values.start_timeout, values.hang_timeout) == (60, 30)


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), ("3", 3), ("256", 256), ("auto", 5), ("Auto", 5)]
)
def test_workers_are_a_number_or_as_many_as_there_are_processors(
    value: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_WORKERS", value)
    assert load().workers == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "-1"),
        ("WORKERS", "257"),
        ("WORKERS", "1.5"),
        ("WORKERS", "automatic"),
        ("WORKERS", "a lot"),
        ("PORT_PER_WORKER", "maybe"),
        ("START_TIMEOUT", "0"),
        ("START_TIMEOUT", "soon"),
        ("HANG_TIMEOUT", "-1"),
        ("HANG_TIMEOUT", "0.5"),
        ("HANG_TIMEOUT", "nan"),
        ("HANG_TIMEOUT", "86401"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"APP_{name}", value)
    [line] = complaints()
    assert line.startswith(f"  APP_{name}: ")
    assert line.endswith(f", got '{value}'")


def test_a_complaint_says_what_workers_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_WORKERS", "many")
    assert complaints() == ["  APP_WORKERS: must be a whole number or auto, got 'many'"]


@pytest.mark.parametrize("value", ["0", "1", "2.5"])
def test_a_worker_is_watched_for_a_second_at_least_or_not_at_all(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_HANG_TIMEOUT", value)
    assert load().hang_timeout == float(value)


OTHER = {"json": "text", "text": "json"}[Settings.model_fields["log_format"].default]


def give(monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"APP_{name.upper()}", str(value))


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
def test_workers_may_have_ports_of_their_own(
    given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, {"port_per_worker": True} | given)
    assert load().port_per_worker is given.get("port_per_worker", True)


@pytest.mark.parametrize(
    ("given", "name", "why"),
    [
        ({"port": 0}, "PORT_PER_WORKER", "needs a number as APP_PORT that is not 0"),
        ({"port": 65534}, "PORT_PER_WORKER", "needs ports up to 65536, but the last one is 65535"),
        ({"port": 65500, "workers": 99}, "PORT_PER_WORKER", "needs ports up to 65598, but"),
        ({"port": 8998}, "ADMIN_PORT", "must differ from APP_PORT and from the ports"),
        ({"port": 9000}, "ADMIN_PORT", "must differ from APP_PORT and from the ports"),
    ],
)
def test_ports_that_there_are_not_are_refused(
    given: dict[str, object], name: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, {"workers": 3, "port_per_worker": True} | given)
    [line] = complaints()
    assert line.startswith(f"  APP_{name}: {why}")


def test_a_bad_port_is_all_that_is_wrong_with_the_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {"port": "eighty", "workers": 3, "port_per_worker": True})
    [line] = complaints()
    assert line.startswith("  APP_PORT: ")


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, []),
        ({"threads": 3, "log_level": "debug", "drain_timeout": 3, "hang_timeout": 3}, []),
        ({"port": 8001, "workers": 7}, ["APP_PORT", "APP_WORKERS"]),
        ({"port_per_worker": True}, ["APP_PORT_PER_WORKER"]),
        ({"address": "::1", "admin_address": "::1"}, ["APP_ADDRESS", "APP_ADMIN_ADDRESS"]),
        ({"admin_port": 9001, "debug": True}, ["APP_ADMIN_PORT", "APP_DEBUG"]),
        ({"log_file": "log", "log_format": OTHER}, ["APP_LOG_FILE", "APP_LOG_FORMAT"]),
    ],
)
def test_some_settings_count_at_the_start_only(
    given: dict[str, object], changed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load()
    give(monkeypatch, given)
    assert set(restart_required(before, load())) == set(changed)
