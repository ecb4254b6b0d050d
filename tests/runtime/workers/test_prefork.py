"""What happens before the first fork, and what the processes share afterwards."""

import asyncio
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from runtime.testing import (
    WAIT_TIMEOUT,
    Record,
    ServiceProcess,
    ServiceStarter,
    wait_until,
)
from runtime.workers import prefork
from runtime.workers.prefork import modules_of, preload, unload

from tests.ports import free_ports
from tests.runtime.support import SAMPLE_APP
from tests.runtime.support.connections import RawConnection
from tests.runtime.support.processes import release
from tests.runtime.support.workers import (
    APPS,
    LISTENING,
    RELOADABLE,
    deploy,
    not_ready_reasons,
    ready,
    version,
)

# Import


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], set[str]]]:
    """A function that returns which modules below `apps/libraries` have been imported.

    They, and packages of `apps` and of the working folder, can be imported during the test.
    """
    _hide_threads(monkeypatch)
    before = set(sys.modules)
    for folder in Path.cwd(), APPS, APPS / "libraries":
        monkeypatch.syspath_prepend(folder)
    yield lambda: {path.stem for path in (APPS / "libraries").glob("*.py")} & set(sys.modules)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", "").startswith((str(APPS), str(Path.cwd()))):
            del sys.modules[name]


def _hide_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the threads that pytest has started already."""
    others = set(threading.enumerate()) - {threading.main_thread()}

    def visible() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in others]

    fake = SimpleNamespace(enumerate=visible, active_count=lambda: len(visible()))
    monkeypatch.setattr(prefork, "threading", fake)


def cannot_import(log_records: list[Record]) -> list[str]:
    return [r["message"] for r in log_records if r["message"].startswith("cannot import")]


def test_dependencies_are_imported_and_the_package_itself_is_not(
    imported: Callable[[], set[str]], log_records: list[Record]
) -> None:
    preload("importing")
    assert imported() == {f"wanted_{number}" for number in range(1, 7)}
    assert not [name for name in sys.modules if name.partition(".")[0] == "importing"]
    # What cannot be imported stops nothing: the worker that needs it reports it.
    libraries = ["broken_library", "no_such_library"]
    assert cannot_import(log_records) == [f"cannot import {name}" for name in libraries]
    assert {record["level"] for record in log_records} == {"debug"}


def test_library_does_not_import_the_package_either(
    imported: Callable[[], set[str]], log_records: list[Record]
) -> None:
    preload("consulted")
    assert not [name for name in sys.modules if name.partition(".")[0] == "consulted"]
    # The worker imports it, together with the module that it needs.
    assert cannot_import(log_records) == ["cannot import consults"]
    import_module("consulted.app")
    assert "consulted.part" in sys.modules


def test_libraries_may_be_kept_for_the_workers(
    imported: Callable[[], set[str]], log_records: list[Record]
) -> None:
    Path("package").mkdir()
    Path("package/__init__.py").write_text("import wanted_1, wanted_2, wanted_3.part")
    import_module("wanted_4")
    preload("package", ["wanted_1", "wanted_3", "wanted_4"])
    assert imported() == {"wanted_2", "wanted_4"}
    [record] = [record for record in log_records if record["level"] == "warning"]
    assert record["message"] == "wanted_4 was imported before the fork, by another library"


@pytest.mark.parametrize("content", [b"import wanted_1\nthis is no Python", b"\xff", b"a\0b"])
def test_files_that_are_not_python_are_skipped(
    imported: Callable[[], set[str]], log_records: list[Record], content: bytes
) -> None:
    package = Path("package")
    package.mkdir()
    (package / "__init__.py").write_bytes(content)
    (package / "module.py").write_text("import wanted_2")
    (package / "nowhere.py").symlink_to("missing")
    preload("package")
    assert imported() == {"wanted_2"}
    assert cannot_import(log_records) == []


def test_package_that_does_not_exist_has_no_dependencies(
    imported: Callable[[], set[str]],
) -> None:
    preload("no_such_package")
    assert imported() == set()


def test_thread_that_an_import_starts_is_reported(
    imported: Callable[[], set[str]], log_records: list[Record]
) -> None:
    preload("threaded")
    library = sys.modules["starts_thread"]
    library.end.set()
    library.thread.join()
    [record] = [record for record in log_records if record["level"] == "warning"]
    assert record["message"].startswith("importing the dependencies started a thread")
    assert record["message"].endswith(": busy")


def test_unload_forgets_the_package_but_neither_the_runtime_nor_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "owned"
    package.mkdir()
    (package / "__init__.py").write_text("FRESH = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in "owned", "owned.part", "owned.part.module", "owned_by_others", "not.owned":
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name in "owned.tracker", "owned.part.kept":
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    before = dict(sys.modules)
    unload("owned", modules_of("owned"), keep={"owned.tracker", "owned.part.kept"})
    removed = {"owned.part", "owned.part.module"}
    fresh = sys.modules.pop("owned")
    del before["owned"]
    assert sys.modules == {name: before[name] for name in before if name not in removed}
    assert fresh.FRESH
    assert fresh.tracker is before["owned.tracker"]


# Start


async def stop(process: ServiceProcess) -> None:
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == ""


async def test_one_worker_is_a_single_process(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=1)
    await process.ports()
    await stop(process)
    assert {record["pid"] for record in process.records()} == {process.pid}
    assert not [message for message in process.messages() if "worker" in message]


async def test_workers_share_a_port(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2, thraeds=3)
    await process.logged("worker 1")
    [listening] = [message for message in process.messages() if message.startswith(LISTENING)]
    assert listening.count("http://") == 2
    port, _ = await process.ports()
    serving = set[int]()
    async with asyncio.timeout(WAIT_TIMEOUT):
        while serving != {0, 1}:
            async with RawConnection(port) as connection:
                await connection.get("/")
            serving = {r["worker"] for r in process.records() if r["logger"] == "access"}
    await stop(process)
    # A typo is reported once, not by every worker.
    [record] = [record for record in process.records() if record["level"] == "warning"]
    assert record["message"] == "APP_THRAEDS is not a setting, did you mean APP_THREADS?"
    assert record["worker"] is None


def can_bind(sock: socket.socket, port: int) -> bool:
    with suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False


def two_ports() -> int:
    """Return a free port that is followed by another."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second:
            port: int = first.getsockname()[1]
            if port < 65535 and can_bind(second, port + 1):
                return port


async def test_workers_may_have_ports_of_their_own(start_service: ServiceStarter) -> None:
    port = two_ports()
    process = start_service(SAMPLE_APP, workers=2, port_per_worker=True, port=port)
    listening = (await process.logged(LISTENING))["message"]
    urls = f"http://127.0.0.1:{port}, http://127.0.0.1:{port + 1}"
    assert listening.startswith(f"{LISTENING} {urls}, admin on http://127.0.0.1:")
    await process.logged("worker 1")
    async with RawConnection(port) as first, RawConnection(port + 1) as second:
        assert (await first.get("/items/first")).status == 200
        assert (await second.get("/items/second")).status == 200
    assert (await process.logged("GET /items/first 200"))["worker"] == 0
    assert (await process.logged("GET /items/second 200"))["worker"] == 1
    await stop(process)


async def test_each_worker_draws_random_numbers_of_its_own(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS / "stand_ins"), prepend=os.pathsep)
    process = start_service("tests.runtime.apps.drawing", workers=2)
    port, _ = await process.ports()
    drawn: dict[int, dict[str, float]] = {}

    async def ask(workers: int) -> None:
        async with asyncio.timeout(WAIT_TIMEOUT):
            while len(drawn) < workers:
                async with RawConnection(port) as connection:
                    numbers = (await connection.get("/")).json()
                drawn[numbers.pop("pid")] = numbers

    await ask(2)
    await process.reload()
    await ask(4)
    for name in "random", "numpy", "seeded_library":
        assert len({numbers[name] for numbers in drawn.values()}) == 4, name
    await stop(process)


async def test_every_port_responds_as_soon_as_the_service_is_ready(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "alone")
    ports = free_ports(3)
    process = start_service(RELOADABLE, workers=3, port_per_worker=True, port=ports[0])
    listening = (await process.logged(LISTENING))["message"]
    admin_port = int(listening.rpartition(":")[2])
    assert await not_ready_reasons(admin_port) == []
    assert [await version(port) for port in ports] == ["alone"] * 3
    release(process)
    await wait_until(lambda: len(ready(process, "worker [012]")) == 3)
    await stop(process)


async def test_port_in_use_is_one_line(start_service: ServiceStarter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start_service(SAMPLE_APP, workers=2, port=port)
        assert await process.exit_code() == 1
    assert process.errors() == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert process.records() == []


async def test_log_file_that_cannot_be_opened_is_one_line(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "service.log"
    process = start_service(SAMPLE_APP, workers=2, log_file=path)
    assert await process.exit_code() == 1
    [line] = process.errors().splitlines()
    assert line.startswith("cannot open the log file: ")
    assert str(path) in line


async def test_all_processes_log_to_one_file(start_service: ServiceStarter, tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    process = start_service(SAMPLE_APP, workers=2, log_file=path, log_format="text")
    await wait_until(lambda: path.exists() and "worker 1" in path.read_text())
    await stop(process)
    text = path.read_text()
    assert text.count(LISTENING) == 1
    assert text.count("resource entered") == 2
    assert re.search(r"\dZ INFO    \S+: stopped\n$", text)
    assert process.records() == []
