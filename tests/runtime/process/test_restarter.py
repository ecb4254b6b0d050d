"""APP_DEBUG: the newest code is served, whenever it is saved."""

import os
import py_compile
import shutil
import signal
from collections.abc import AsyncIterator
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from runtime.process.restarter import discard_byte_code
from runtime.testing import ServiceProcess, ServiceStarter, wait_until

from tests.ports import free_port

from ..support import sample_app
from ..support.connections import RawConnection
from ..support.messages import LISTENING, STOPPED
from ..support.processes import begin_slow_request, is_refused
from ..support.workers import RELOADABLE, deploy, has_exited, version


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def process(
    start_service: ServiceStarter, tmp_path: Path, port: int
) -> AsyncIterator[ServiceProcess]:
    """The service whose code is what `deploy` puts into its folder; stopped afterwards."""
    deploy(tmp_path, "first")
    # Several workers are no obstacle: with debug there is one process.
    process = start_service(RELOADABLE, debug=True, workers=2, port=port)
    yield process
    process.send_signal(signal.SIGTERM)
    await process.exit_code()
    await is_refused(port)


def listening(process: ServiceProcess) -> int:
    """Count how often it has become ready."""
    return len([message for message in process.messages() if message.startswith(LISTENING)])


async def test_newest_code_is_served_whenever_it_is_saved(
    process: ServiceProcess, tmp_path: Path, port: int
) -> None:
    await process.logged(LISTENING)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)  # delays nothing
        deploy(tmp_path, "connecting")
        await process.logged("connecting")  # it has imported that version, and is not ready yet
        deploy(tmp_path, "second")
        await wait_until(lambda: listening(process) == 2)
    assert await version(port) == "second"


async def test_change_mends_a_service_that_cannot_start(
    process: ServiceProcess, tmp_path: Path, port: int
) -> None:
    await process.logged(LISTENING)
    (tmp_path / "renewed" / "app.py").write_text("this is no Python\n")
    record = await process.logged("cannot create the application: SyntaxError")
    assert "this is no Python" in record["exception.stacktrace"]
    await wait_until(lambda: "exit code 1: waiting until a file changes" in process.errors())
    assert "SyntaxError" in process.errors()
    deploy(tmp_path, "second")
    await wait_until(lambda: listening(process) == 2)
    assert await version(port) == "second"
    deploy(tmp_path, "broken")
    await wait_until(lambda: process.errors().count("waiting until a file changes") == 2)
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 1


async def test_settings_are_read_again_when_they_are_saved(
    process: ServiceProcess, tmp_path: Path
) -> None:
    await process.logged(LISTENING)
    (tmp_path / ".env").write_text("APP_THREADS=none\n")
    await wait_until(lambda: "Bad settings:\n  APP_THREADS: " in process.errors())
    (tmp_path / ".env").unlink()
    await wait_until(lambda: listening(process) == 2)
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.messages()[-1] == STOPPED


async def test_module_outside_of_the_package_is_watched_until_the_parent_exits(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    module = tmp_path / "changing_app.py"
    shutil.copy(sample_app.__file__, module)
    process = start_service("changing_app", debug=True)
    await process.logged(LISTENING)
    module.touch()
    await wait_until(lambda: listening(process) == 2)
    process.send_signal(signal.SIGKILL)
    pids = {record["pid"] for record in process.records()}
    assert process.pid not in pids
    await wait_until(lambda: all(map(has_exited, pids)))


def test_byte_code_that_python_would_take_for_new_is_discarded(tmp_path: Path) -> None:
    module, other = tmp_path / "module.py", tmp_path / "other.py"
    for path in module, other:
        path.write_text("VERSION = 1\n")
        py_compile.compile(str(path))
    discard_byte_code([module, tmp_path / "page.html", tmp_path / "new.py"])
    assert not os.path.exists(cache_from_source(str(module)))
    assert os.path.exists(cache_from_source(str(other)))
