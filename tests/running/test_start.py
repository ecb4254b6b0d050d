"""Starting with what cannot work: a clear word at once, and no process left behind."""

import socket
import time
from pathlib import Path

import pytest

from .harness import Service, Starter

SECRET = "hunter2-the-secret"

BAD_ENVIRONMENTS = {
    "port is a word": {"APP_PORT": "eighty"},
    "port is too high": {"APP_PORT": "65536"},
    "port is negative": {"APP_PORT": "-1"},
    "port has a fraction": {"APP_PORT": "80.5"},
    "port comes from Kubernetes": {"APP_PORT": "tcp://10.0.0.1:80"},
    "ports are the same": {"APP_PORT": "8000", "APP_ADMIN_PORT": "8000"},
    "address is a name": {"APP_ADDRESS": "localhost.example"},
    "address has a port": {"APP_ADMIN_ADDRESS": "127.0.0.1:9000"},
    "level is unknown": {"APP_LOG_LEVEL": "loud"},
    "format is unknown": {"APP_LOG_FORMAT": "xml"},
    "delay is not a number": {"APP_DRAIN_DELAY": "nan"},
    "delay is infinite": {"APP_DRAIN_DELAY": "inf"},
    "time-out has a unit": {"APP_DRAIN_TIMEOUT": "25s"},
    "time-out is negative": {"APP_DRAIN_TIMEOUT": "-5"},
    "idle time-out is nothing": {"APP_IDLE_TIMEOUT": "0"},
    "body time-out is a word": {"APP_BODY_TIMEOUT": "never"},
    "body size is nothing": {"APP_MAX_BODY_SIZE": "0"},
    "proxy is no network": {"APP_TRUSTED_PROXIES": "127.0.0.1, nginx"},
    "network has host bits": {"APP_TRUSTED_PROXIES": "10.1.2.3/8"},
    "no threads": {"APP_THREADS": "0"},
    "debug is neither": {"APP_DEBUG": "perhaps"},
    "credentials under the wrong key": {"APP_PORT": f"postgres://app:{SECRET}@db/app"},
    "everything at once": {
        "APP_ADDRESS": "x",
        "APP_PORT": "x",
        "APP_ADMIN_ADDRESS": "x",
        "APP_ADMIN_PORT": "x",
        "APP_LOG_LEVEL": "x",
        "APP_LOG_FORMAT": "x",
        "APP_DRAIN_DELAY": "x",
        "APP_DRAIN_TIMEOUT": "x",
        "APP_IDLE_TIMEOUT": "x",
        "APP_BODY_TIMEOUT": "x",
        "APP_MAX_BODY_SIZE": "x",
        "APP_TRUSTED_PROXIES": "x",
        "APP_THREADS": "x",
        "APP_DEBUG": "x",
    },
}


def outcome(run: Starter, *arguments: str, **settings: object) -> tuple[Service, int, float]:
    """Start what cannot start. Returns it with its exit code and how long it took."""
    started = time.monotonic()
    service = run.spawn(*arguments, **settings)
    return service, service.wait(), time.monotonic() - started


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize("name", BAD_ENVIRONMENTS)
def test_bad_settings(run: Starter, name: str, command: str) -> None:
    environment = {**BAD_ENVIRONMENTS[name], "APP_UNRELATED_TOKEN": SECRET}
    service, code, seconds = outcome(run, "-m", "tornado_service", command, **environment)
    assert code == 78
    assert seconds < 2
    first, *lines = service.errors().splitlines()
    assert first == "Bad settings:"
    complained = {line.strip().partition(":")[0] for line in lines}
    expected = {key for key in BAD_ENVIRONMENTS[name] if key != "APP_PORT" or "same" not in name}
    assert complained == expected
    assert len(lines) == len(expected)
    assert "Traceback" not in service.errors()
    assert SECRET not in service.errors()
    assert service.log_path.read_text() == ""


def test_bad_dotenv(run: Starter) -> None:
    (run.folder / ".env").write_text("APP_THREADS=many\nAPP_LOG_LEVEL=loud\nOTHER=1\n")
    service, code, _ = outcome(run)
    assert code == 78
    assert "APP_THREADS" in service.errors()
    assert "APP_LOG_LEVEL" in service.errors()
    assert "OTHER" not in service.errors()


def test_unreadable_dotenv(run: Starter) -> None:
    (run.folder / ".env").write_bytes(b"APP_THREADS=\xff\xfe\x00\n")
    service, code, _ = outcome(run)
    assert code == 78
    assert ".env cannot be read" in service.errors()
    assert "Traceback" not in service.errors()


def test_good_settings_are_no_error(run: Starter) -> None:
    service, code, _ = outcome(run, "-m", "tornado_service", "check", APP_THREADS=3)
    assert (code, service.errors()) == (0, "")
    assert "APP_THREADS=3" in service.log_path.read_text()


@pytest.mark.parametrize("setting", ["APP_PORT", "APP_ADMIN_PORT"])
def test_port_in_use(run: Starter, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service, code, seconds = outcome(run, **{setting: port})
    check_refusal(service, code, seconds, f"cannot listen on 127.0.0.1 port {port}: ")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_address_that_is_not_local(run: Starter, address: str) -> None:
    service, code, seconds = outcome(run, APP_ADDRESS=address, APP_PORT=8123)
    check_refusal(service, code, seconds, f"cannot listen on {address} port 8123: ")


def test_log_folder_that_does_not_exist(run: Starter) -> None:
    path = run.folder / "nowhere/service.log"
    service, code, seconds = outcome(run, APP_LOG_FILE=path)
    check_refusal(service, code, seconds, f"'{path}'")


def test_log_folder_that_cannot_be_written(run: Starter) -> None:
    # Even root may not create a file here.
    service, code, seconds = outcome(run, APP_LOG_FILE="/proc/service.log")
    check_refusal(service, code, seconds, "cannot write the log: ", "'/proc/service.log'")


def check_refusal(service: Service, code: int, seconds: float, *parts: str) -> None:
    """Check that one line said what and where."""
    assert code == 1
    assert seconds < 2
    assert len(service.errors().splitlines()) == 1
    for part in parts:
        assert part in service.errors()
    assert not Path(f"/proc/{service.process.pid}").exists()
