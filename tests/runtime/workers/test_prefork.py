import asyncio
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.workers.prefork import import_dependencies

from .conftest import ServiceStarter
from .support import WAIT_TIMEOUT, ServiceProcess, Record, RawConnection, wait_until
from .test_logwriter import wait_for

STAND_IN = "tests.stand_in"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "part").mkdir(parents=True)
    return folder


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for libraries; what has been imported from there is forgotten afterwards."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def imported(libraries: Path) -> set[str]:
    """Tell which of the libraries have been imported."""
    names = {path.stem for path in libraries.glob("*.py")}
    return names & set(sys.modules)


def test_what_the_modules_import_from_elsewhere_is_imported(package: Path, libraries: Path) -> None:
    for name in "library_a", "library_b", "library_c", "library_d", "library_e", "library_f":
        (libraries / f"{name}.py").touch()
    (package / "one.py").write_text(
        """
import library_a
import library_b as b, library_c
if True:
    try:
        from library_d import something
    except ImportError:
        pass
class Class:
    import library_e
"""
    )
    (package / "part" / "two.py").write_text("from library_f import *\n")
    import_dependencies(package)
    assert imported(libraries) == {path.stem for path in libraries.glob("*.py")}


def test_what_a_function_imports_is_not_imported(package: Path, libraries: Path) -> None:
    for name in "library_a", "library_b", "library_c", "library_d":
        (libraries / f"{name}.py").touch()
    (package / "one.py").write_text(
        """
import library_a
def function():
    import library_b
async def coroutine():
    import library_c
class Class:
    def method(self):
        from library_d import something
"""
    )
    import_dependencies(package)
    assert imported(libraries) == {"library_a"}


def test_modules_of_the_package_are_not_imported(package: Path, libraries: Path) -> None:
    (libraries / "library_a.py").touch()
    (package / "sibling.py").write_text("raise AssertionError")
    (package / "__init__.py").write_text("raise AssertionError")
    (package / "one.py").write_text(
        "from . import sibling\nfrom .library_a import b\nfrom .. import library_a\n"
    )
    before = set(sys.modules)
    import_dependencies(package)
    assert set(sys.modules) == before
    assert imported(libraries) == set()


def test_what_cannot_be_imported_stops_nothing(
    package: Path, libraries: Path, log_records: list[Record]
) -> None:
    (libraries / "library_a.py").write_text("raise ValueError('broken')")
    (libraries / "library_b.py").touch()
    (package / "one.py").write_text("import library_a, no_such_library, library_b")
    import_dependencies(package)
    assert imported(libraries) == {"library_b"}
    messages = [(record["level"], record["message"]) for record in log_records]
    assert messages == [
        ("debug", "cannot import library_a"),
        ("debug", "cannot import no_such_library"),
    ]


@pytest.mark.parametrize("content", [b"import library_a\nthis is no Python", b"\xff", b"a\0b"])
def test_what_is_no_python_stops_nothing(
    package: Path, libraries: Path, log_records: list[Record], content: bytes
) -> None:
    (libraries / "library_b.py").touch()
    (package / "one.py").write_bytes(content)
    (package / "two.py").write_text("import library_b")
    (package / "three.py").symlink_to(package / "nowhere")
    import_dependencies(package)
    assert imported(libraries) == {"library_b"}
    assert log_records == []


def test_a_thread_that_an_import_starts_is_told(
    package: Path, libraries: Path, log_records: list[Record]
) -> None:
    (package / "one.py").write_text("import library_a")
    (libraries / "library_a.py").write_text(
        """
import threading
end = threading.Event()
thread = threading.Thread(target=end.wait, name="busy")
thread.start()
"""
    )
    import_dependencies(package)
    library = sys.modules["library_a"]
    library.end.set()
    library.thread.join()
    [record] = log_records
    assert record["level"] == "warning"
    assert record["message"].startswith("importing the dependencies started a thread")
    assert record["message"].endswith(": busy")


def test_without_a_thread_there_is_nothing_to_tell(
    package: Path, libraries: Path, log_records: list[Record]
) -> None:
    (package / "one.py").write_text("import library_a")
    (libraries / "library_a.py").touch()
    wait_for(lambda: threading.active_count() == 1)  # one of another test may be about to end
    import_dependencies(package)
    assert log_records == []


async def stop(process: ServiceProcess) -> None:
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == ""


@pytest.mark.parametrize("settings", [{"workers": 1}, {"workers": 2, "debug": True}])
async def test_one_worker_and_debugging_need_no_supervisor(
    start_service: ServiceStarter, settings: dict[str, object]
) -> None:
    process = start_service(STAND_IN, **settings)
    await process.ports()
    await stop(process)
    assert {record["pid"] for record in process.records()} == {process.records()[0]["pid"]}
    assert not [message for message in process.messages() if "worker" in message]


async def test_workers_share_a_port(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2, thraeds=3)
    await process.logged("worker 1")
    [greeting] = [message for message in process.messages() if message.startswith("listening")]
    assert greeting.count("http://") == 2
    port, _ = await process.ports()
    answered = set[int]()
    async with asyncio.timeout(WAIT_TIMEOUT):
        while answered != {0, 1}:
            async with RawConnection(port) as wire:
                await wire.get("/")
            answered = {one["worker"] for one in process.records() if one["logger"] == "access"}
    await stop(process)
    # What is misspelt is told once, not by every worker.
    [record] = [one for one in process.records() if one["level"] == "warning"]
    assert record["message"] == "APP_THRAEDS is not a setting, did you mean APP_THREADS?"
    assert record["worker"] is None


def can_bind(one: socket.socket, port: int) -> bool:
    with suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


def two_ports() -> int:
    """Find a free port that is followed by another."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second:
            port: int = first.getsockname()[1]
            if port < 65535 and can_bind(second, port + 1):
                return port


async def test_workers_may_have_ports_of_their_own(start_service: ServiceStarter) -> None:
    port = two_ports()
    process = start_service(STAND_IN, workers=2, port_per_worker=True, port=port)
    greeting = (await process.logged("listening on"))["message"]
    urls = f"http://127.0.0.1:{port}, http://127.0.0.1:{port + 1}"
    assert greeting.startswith(f"listening on {urls}, admin on http://127.0.0.1:")
    await process.logged("worker 1")
    async with RawConnection(port) as first, RawConnection(port + 1) as second:
        assert (await first.get("/items/first")).status == 200
        assert (await second.get("/items/second")).status == 200
    assert (await process.logged("GET /items/first 200"))["worker"] == 0
    assert (await process.logged("GET /items/second 200"))["worker"] == 1
    await stop(process)


async def test_a_port_in_use_is_one_line(start_service: ServiceStarter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start_service(STAND_IN, workers=2, port=port)
        assert await process.exit_code() == 1
    assert process.errors() == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert process.records() == []


async def test_a_log_file_that_cannot_be_written_is_one_line(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "service.log"
    process = start_service(STAND_IN, workers=2, log_file=path)
    assert await process.exit_code() == 1
    [line] = process.errors().splitlines()
    assert line.startswith("cannot write the log: ")
    assert str(path) in line


async def test_all_processes_log_to_one_file(start_service: ServiceStarter, tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    process = start_service(STAND_IN, workers=2, log_file=path, log_format="text")
    await wait_until(lambda: path.exists() and "worker 1" in path.read_text())
    await stop(process)
    text = path.read_text()
    assert text.count("listening on") == 1
    assert text.count("resource entered") == 2
    assert re.search(r"\dZ INFO    \S+: stopped\n$", text)
    assert process.records() == []
