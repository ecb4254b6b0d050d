"""What the tests share."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from {{ cookiecutter.package_name }}.runtime.admin.handlers import make_admin
from {{ cookiecutter.package_name }}.runtime.logs.formatters import JsonFormatter, Scrub
from {{ cookiecutter.package_name }}.runtime.settings import Settings

from .stand_in import make_app
from .support import Client, Patient, Process, Record, serving


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("APP_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of the stand-in, which runs in this process."""
    settings = Settings()
    async with serving(make_app(settings), settings) as client:
        yield client


@pytest.fixture
def patient() -> Patient:
    """The service; a test may say how it is."""
    return Patient()


@pytest.fixture
async def admin(patient: Patient) -> AsyncIterator[Client]:
    settings = Settings()
    async with serving(make_admin(settings, patient), settings) as client:
        yield client


class Log(logging.Handler):
    """Keeps the lines that the service would write."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.addFilter(Scrub())
        self.records: list[Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(orjson.loads(self.format(record)))


@pytest.fixture
def log() -> Iterator[list[Record]]:
    """What has been logged, down to level debug."""
    handler, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.records
    root.setLevel(level)
    root.removeHandler(handler)


class Starter:
    """Starts processes in a folder and ends them when the test is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[Process] = []

    def __call__(self, module: str, **settings: object) -> Process:
        given = {f"APP_{name.upper()}": str(value) for name, value in settings.items()}
        process = Process(module, self._folder, given)
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start the service, or a module that serves: ``start("tests.stand_in", threads=1)``."""
    starter = Starter(tmp_path)
    yield starter
    starter.end()
