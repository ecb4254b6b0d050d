"""The command of a service: serve, check, healthcheck."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from runtime import Service, Settings
from runtime.admin.handlers import make_admin_app
from runtime.checksums import RUNTIME
from runtime.monitor.monitor import Monitor
from runtime.process.definition import ServiceDefinition
from runtime.service import EXIT_BAD_SETTINGS, EXIT_BROKEN_PIPE, EXIT_INTERRUPTED
from runtime.testing import SOURCE, ServiceStarter, serving

from .apps import orders as orders_package
from .apps.orders.__main__ import service as orders
from .support import SAMPLE_APP
from .support.connections import RawConnection
from .support.fakes import ORDERS, FakeStatus
from .support.messages import CANNOT_CREATE_APP
from .support.sample_app import service as sample

ORDERS_APP = "tests.runtime.apps.orders"
PRICE_LIST = "https://example.com/prices"
API_KEY = "correct-horse-battery-staple"
TOO_MANY_WORKERS = (
    "Bad settings:\n"
    "  APP_WORKERS: must be 1, because this service runs in a single process, got 3\n"
)

single = Service("single", "1.0", settings="runtime.settings:Settings", app="missing:make_app")


@pytest.fixture
async def status(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeStatus]:
    """The status of a running service, whose admin port is at APP_ADMIN_PORT."""
    status = FakeStatus()
    async with serving(make_admin_app(Settings(), status, Monitor(ORDERS))) as admin:
        monkeypatch.setenv("APP_ADMIN_PORT", str(admin.port))
        yield status


@pytest.fixture
def _price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the only setting that the orders service requires."""
    monkeypatch.setenv("APP_PRICE_LIST", PRICE_LIST)


async def healthcheck() -> int:
    return await asyncio.to_thread(sample.main, ["healthcheck"])


def test_version_is_printed_with_that_of_the_template(capsys: pytest.CaptureFixture[str]) -> None:
    assert orders.main(["--version"]) == 0
    template = (RUNTIME / "VERSION").read_text().strip()
    assert capsys.readouterr().out == f"{ORDERS_APP} 1.7 (tornado-template {template})\n"


def test_version_is_printed_with_the_revision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/REVISION").write_text("v1.7-3-g0123456789ab\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Service("shop", "1.7").main(["--version"]) == 0
    template = (RUNTIME / "VERSION").read_text().strip()
    expected = f"shop 1.7 (v1.7-3-g0123456789ab; tornado-template {template})\n"
    assert capsys.readouterr().out == expected


def test_version_is_one_line_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert orders.main(["--version"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        sample.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: sample-app ")
    for command in "serve", "check", "healthcheck":
        assert re.search(rf"^ +{command}\b", text, re.MULTILINE)


def test_help_and_version_work_with_bad_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PORT", "eighty")
    assert sample.main(["--version"]) == 0
    with pytest.raises(SystemExit) as caught:
        sample.main(["--help"])
    assert caught.value.code == 0


def test_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        sample.main(["sevre"])
    assert caught.value.code == 2
    assert "sevre" in capsys.readouterr().err


def test_check_prints_settings_that_can_be_read_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    monkeypatch.setenv("APP_DEBUG", "true")
    before = Settings.load()
    assert sample.main(["check"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert len(printed.out.splitlines()) == len(Settings.model_fields)
    monkeypatch.delenv("APP_TRUSTED_PROXIES")
    monkeypatch.delenv("APP_DEBUG")
    Path(".env").write_text(printed.out)
    assert Settings.load() == before


@pytest.mark.usefixtures("_price_list")
def test_check_prints_own_settings_with_secrets_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_API_KEY", API_KEY)
    assert orders.main(["check"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert f"APP_PRICE_LIST={PRICE_LIST}" in lines
    assert "APP_API_KEY=**********" in lines
    assert 'APP_CURRENCIES=["EUR"]' in lines
    assert "APP_PORT=8000" in lines
    assert API_KEY not in printed.out + printed.err


def test_check_warns_of_unknown_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_PROT", "80")
    assert sample.main(["check"]) == 0
    expected = "Warning: APP_PROT is not a setting, did you mean APP_PORT?\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["healthcheck"]])
def test_every_command_refuses_bad_settings(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_PORT", "eighty")
    monkeypatch.setenv("APP_THREADS", "0")
    assert orders.main(command) == EXIT_BAD_SETTINGS == 78
    printed = capsys.readouterr()
    assert printed.out == ""
    title, *lines = printed.err.splitlines()
    assert title == "Bad settings:"
    names = [line.partition(":")[0] for line in lines]
    assert names == ["  APP_PORT", "  APP_THREADS", "  APP_PRICE_LIST"]


async def test_bad_settings_end_the_process_with_78(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, port="eighty", threads=0)
    assert await process.exit_code() == 78
    assert process.errors().splitlines()[0] == "Bad settings:"
    assert len(process.errors().splitlines()) == 3
    assert process.records() == []


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["healthcheck"]])
def test_several_workers_are_refused_without_a_process_model(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_WORKERS", "3")
    assert single.main(command) == 78
    assert capsys.readouterr() == ("", TOO_MANY_WORKERS)


def test_one_worker_is_accepted_without_a_process_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_WORKERS", "1")
    assert single.main(["check"]) == 0


@pytest.mark.parametrize("is_supported", [True, False])
@pytest.mark.parametrize(("workers", "debug"), [(1, False), (3, False), (3, True)])
def test_process_model_serves_several_workers_where_it_is_supported(
    *, is_supported: bool, workers: int, debug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    class RecordingModel:
        def __init__(self) -> None:
            self.is_supported = is_supported

        def load_settings(self, definition: ServiceDefinition) -> Settings:
            return definition.load_settings()

        def serve(self, definition: object, settings: Settings) -> int:
            calls.append(settings.workers)
            return 7

    monkeypatch.setenv("APP_WORKERS", str(workers))
    monkeypatch.setenv("APP_DEBUG", str(debug))
    monkeypatch.setattr("runtime.process.single.serve", lambda *_: calls.append("single"))
    monkeypatch.setattr("runtime.process.restarter.is_child", lambda: True)
    service = Service(
        "service", "1.0", processes=RecordingModel(), settings="runtime.settings:Settings"
    )
    if is_supported and workers > 1 and not debug:
        assert service.main([]) == 7
        assert calls == [3]
    else:
        assert service.main([]) == 0
        assert calls == ["single"]


async def test_service_with_default_places_serves(start_service: ServiceStarter) -> None:
    process = start_service(ORDERS_APP, price_list=PRICE_LIST)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        response = await connection.get("/prices")
        assert response.json() == {"price_list": PRICE_LIST}
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0


def break_module(folder: Path, name: str) -> str:
    """Copy the orders service into a folder, with a module that cannot be imported."""
    copy = folder / "broken_orders"
    shutil.copytree(Path(orders_package.__file__).parent, copy)
    (copy / name).write_text("import no_such_module\n")
    return copy.name


async def test_broken_app_module_is_one_line(start_service: ServiceStarter, tmp_path: Path) -> None:
    process = start_service(break_module(tmp_path, "app.py"), price_list=PRICE_LIST)
    assert await process.exit_code() == 1
    cause = ModuleNotFoundError("No module named 'no_such_module'")
    assert process.errors() == f"{CANNOT_CREATE_APP}{cause!r}\n"
    [_, record] = process.records()
    assert 'broken_orders/app.py", line 1' in record["exception.stacktrace"]


async def test_broken_settings_module_is_a_traceback(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    # A mistake in code, not in a value: its place is what matters.
    process = start_service(break_module(tmp_path, "settings.py"))
    assert await process.exit_code() == 1
    assert 'broken_orders/settings.py", line 1' in process.errors()
    assert process.errors().endswith("ModuleNotFoundError: No module named 'no_such_module'\n")


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("runtime.process.single.serve", interrupt)
    assert single.main([]) == EXIT_INTERRUPTED == 130


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """A pipe to write to that is read no further."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("argument", ["check", "--help"])
def test_output_that_is_read_no_further_is_no_traceback(
    argument: str, broken_pipe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE), prepend=os.pathsep)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # argparse hides errors then
    command = [sys.executable, "-m", SAMPLE_APP, argument]
    done = subprocess.run(command, stdout=broken_pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (EXIT_BROKEN_PIPE, b"")
    assert EXIT_BROKEN_PIPE == 128 + signal.SIGPIPE


def test_errors_that_are_read_no_further_are_no_traceback(
    broken_pipe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in `healthcheck 2>&1 | head -1`, which has nothing to say on standard output.
    monkeypatch.setenv("PYTHONPATH", str(SOURCE), prepend=os.pathsep)
    monkeypatch.setenv("APP_ADMIN_PORT", "1")
    command = [sys.executable, "-m", SAMPLE_APP, "healthcheck"]
    done = subprocess.run(command, stdout=broken_pipe, stderr=subprocess.STDOUT)
    assert done.returncode == EXIT_BROKEN_PIPE


async def test_ready_service_is_healthy(
    status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await healthcheck() == 0
    assert '"ready":true' in capsys.readouterr().out


async def test_healthcheck_uses_loopback_for_an_unspecified_address(
    status: FakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ADMIN_ADDRESS", "0.0.0.0")
    assert await healthcheck() == 0


async def test_service_that_is_not_ready_is_unhealthy(
    status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    status.reasons += ["draining"]
    assert await healthcheck() == 1
    assert "draining" in capsys.readouterr().out


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1", "127.0.0.1"), ("::", "[::1]")])
async def test_service_that_is_not_running_is_unhealthy(
    address: str, host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("APP_ADMIN_ADDRESS", address)
        monkeypatch.setenv("APP_ADMIN_PORT", str(port))
        assert await healthcheck() == 1
    assert capsys.readouterr().err.startswith(f"no response from {host}:{port}: ")


async def test_another_protocol_on_the_admin_port_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        monkeypatch.setenv("APP_ADMIN_PORT", str(port))
        assert await healthcheck() == 1
    assert "no response from 127.0.0.1" in capsys.readouterr().err
