"""Fixtures for Tornado's own tests."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import uvloop
from tornado.httpserver import HTTPServer
from tornado.log import app_log, gen_log

from ..support.tornado_server import RuntimeServer
from .differences import LOG_MESSAGES
from .suite import TIMEOUT


@pytest.fixture(autouse=True)
def _server_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Tornado's tests use the server of the runtime, on uvloop."""
    for name, value in TIMEOUT.items():
        monkeypatch.setenv(name, value)
    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    HTTPServer.configure(RuntimeServer)
    yield
    HTTPServer.configure(None)
    asyncio.set_event_loop_policy(policy)


@pytest.fixture(autouse=True)
def _log_messages_of_tornado() -> Iterator[None]:
    """Let the server log as Tornado's does: the tests look for its words, and for nothing else."""
    logger = logging.getLogger("runtime.http1.connection")
    access = logging.getLogger("tornado.access")
    level = access.level
    access.setLevel(logging.CRITICAL)  # as in Tornado's own runner
    logger.addFilter(_log_as_tornado)
    yield
    logger.removeFilter(_log_as_tornado)
    access.setLevel(level)


def _log_as_tornado(record: logging.LogRecord) -> bool:
    """Log a record as Tornado would, in place of ours."""
    if record.exc_info:
        app_log.error("Uncaught exception", exc_info=record.exc_info)
        return False
    assert isinstance(record.args, tuple)
    peer, ours = record.args
    tornados = (text for begin, text in LOG_MESSAGES.items() if str(ours).startswith(begin))
    gen_log.log(record.levelno, "Malformed HTTP message from %s: %s", peer, next(tornados, ours))
    return False
