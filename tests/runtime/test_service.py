import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime import __version__
from runtime import settings
from runtime.service import main
from runtime.admin.handlers import make_admin_app
from runtime.settings import Settings

from .support import FakeStatus, serving


@pytest.fixture
async def reasons(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """Why the service at APP_ADMIN_PORT is not ready; a test may change it."""
    values, status = Settings(), FakeStatus()
    async with serving(make_admin_app(values, status), values) as admin:
        monkeypatch.setenv("APP_ADMIN_PORT", str(admin.port))
        yield status.reasons


async def healthcheck() -> int:
    return await asyncio.to_thread(main, ["healthcheck"])


def test_version_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for command in "serve", "check", "healthcheck":
        assert re.search(rf"^ +{command}\b", text, re.MULTILINE)


def test_help_and_version_need_no_good_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "eighty")
    for option in "--help", "--version":
        with pytest.raises(SystemExit) as caught:
            main([option])
        assert caught.value.code == 0


def test_an_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["sevre"])
    assert caught.value.code == 2
    assert "sevre" in capsys.readouterr().err


def test_check_prints_settings_that_can_be_read_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    monkeypatch.setenv("APP_DEBUG", "true")
    before = settings.load()
    assert main(["check"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert len(printed.out.splitlines()) == len(Settings.model_fields)
    monkeypatch.delenv("APP_TRUSTED_PROXIES")
    monkeypatch.delenv("APP_DEBUG")
    Path(".env").write_text(printed.out)
    assert settings.load() == before


def test_check_masks_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithSecret(Settings):
        token: SecretStr

    monkeypatch.setattr(settings, "Settings", WithSecret)
    monkeypatch.setenv("APP_TOKEN", "hunter2")
    assert main(["check"]) == 0
    printed = capsys.readouterr()
    assert "APP_TOKEN=***" in printed.out
    assert "hunter2" not in printed.out + printed.err


def test_check_warns_of_misspelt_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_PROT", "80")
    assert main(["check"]) == 0
    expected = "Warning: APP_PROT is not a setting, did you mean APP_PORT?\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["healthcheck"]])
def test_every_command_refuses_bad_settings(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_PORT", "eighty")
    monkeypatch.setenv("APP_THREADS", "0")
    assert main(command) == 78
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("APP_") == 2


async def test_a_service_that_is_ready_is_healthy(
    reasons: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await healthcheck() == 0
    assert '"ready":true' in capsys.readouterr().out


async def test_a_service_that_listens_everywhere_is_asked_here(
    reasons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ADMIN_ADDRESS", "0.0.0.0")  # noqa: S104
    assert await healthcheck() == 0


async def test_a_service_that_is_not_ready_is_unhealthy(
    reasons: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    reasons += ["draining"]
    assert await healthcheck() == 1
    assert "draining" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["127.0.0.1", "::"])
async def test_a_service_that_does_not_run_is_unhealthy(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("APP_ADMIN_ADDRESS", address)
        monkeypatch.setenv("APP_ADMIN_PORT", str(port))
        assert await healthcheck() == 1
    host = "::1" if address == "::" else address
    assert capsys.readouterr().err.startswith(f"no answer from {host} port {port}: ")


async def test_something_else_on_the_port_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        monkeypatch.setenv("APP_ADMIN_PORT", str(port))
        assert await healthcheck() == 1
    assert "no answer from 127.0.0.1" in capsys.readouterr().err


def test_check_shows_a_path_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_LOG_FILE", "/Logs/Service.log")
    assert main(["check"]) == 0
    assert "APP_LOG_FILE=/Logs/Service.log\n" in capsys.readouterr().out
