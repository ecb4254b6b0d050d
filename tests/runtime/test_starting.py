"""The first moments of a process: signals during its imports, and streams that are closed."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtime import starting
from runtime.testing import SOURCE, WAIT_TIMEOUT

from tests.ports import free_ports

from .support import SAMPLE_APP
from .support.processes import accepts
from .support.waiting import wait_for

APPS = Path(__file__).with_name("apps")
COMMANDS = {"module": ("-m", "early"), "script": (str(APPS / "commands/run_early.py"), "serve")}

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the service `early`, which never gets beyond its imports."""
    shutil.copytree(APPS / "early", tmp_path / "early")
    (tmp_path / "early/runtime").symlink_to(SOURCE / "runtime")
    path = os.pathsep.join(map(str, (APPS / "stalled", tmp_path)))
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*wrapper, sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": path},
            cwd=tmp_path,
            start_new_session=True,  # without a terminal
        )
        started.append(process)
        wait_for((tmp_path / "importing").exists)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("command", COMMANDS)
def test_signals_are_heard_before_the_imports_are_finished(start: Start, command: str) -> None:
    process = start(*COMMANDS[command])
    for signum in signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM:
        process.send_signal(signum)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_TIMEOUT) == 0


def test_other_commands_have_ordinary_handlers(start: Start) -> None:
    process = start("-m", "early", "healthcheck")
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_TIMEOUT) == -signal.SIGTERM


def test_nohup_counts_during_the_imports(start: Start) -> None:
    process = start(*COMMANDS["module"], wrapper=("nohup",))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_TIMEOUT) == 0


def test_neither_a_test_nor_a_process_of_a_pool_is_about_to_serve() -> None:
    assert not starting.is_about_to_serve("runtime")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(starting.is_about_to_serve, ("runtime",)) is False


@pytest.mark.parametrize(
    ("closed", "workers"), [(">&-", 1), (">&-", 2), ("2>&-", 1), ("<&- >&- 2>&-", 2)]
)
def test_service_starts_with_closed_streams(tmp_path: Path, closed: str, workers: int) -> None:
    port, admin_port = free_ports(2)
    log = tmp_path / "service.log"
    variables = {
        "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ["PYTHONPATH"]]),
        "APP_PORT": str(port),
        "APP_ADMIN_PORT": str(admin_port),
        "APP_WORKERS": str(workers),
    }
    command = f'exec "$0" -m {SAMPLE_APP} >"$1" 2>&1 {closed}'
    process = subprocess.Popen(
        ["sh", "-c", command, sys.executable, str(log)], env=os.environ | variables, cwd=tmp_path
    )
    try:
        wait_for(lambda: accepts(port) or process.poll() is not None)
    finally:
        process.terminate()
    assert process.wait(WAIT_TIMEOUT) == 0
    text = log.read_text()
    assert "Error" not in text
    assert ("stopped" in text) is (">&-" not in closed.split())
