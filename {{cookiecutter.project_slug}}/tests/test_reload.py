"""Several workers: a reload under load fails no request."""

import asyncio
import os
import signal
from http import HTTPStatus

import pytest
from tornado.httpclient import AsyncHTTPClient

from {{ cookiecutter.package_name }}.runtime.testing import (
    ServiceStarter,
    wait_until,
)

CLIENTS = 4
REQUESTS = 100


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork: a single process serves there")
async def test_reload_under_load_fails_no_request(start_service: ServiceStarter) -> None:
    service = start_service(workers=2)
    port, _ = await service.ports()
    http = AsyncHTTPClient()
    statuses: list[int] = []
    stop = asyncio.Event()

    async def send_requests() -> None:
        while not stop.is_set():
            response = await http.fetch(f"http://127.0.0.1:{port}/nowhere", raise_error=False)
            statuses.append(response.code)

    clients = [asyncio.create_task(send_requests()) for _ in range(CLIENTS)]
    await wait_until(lambda: len(statuses) > REQUESTS)
    await service.reload()
    reloaded = len(statuses)
    await wait_until(lambda: len(statuses) > reloaded + REQUESTS)
    stop.set()
    await asyncio.gather(*clients)
    assert set(statuses) == {HTTPStatus.NOT_FOUND}
    service.send_signal(signal.SIGTERM)
    assert await service.exit_code() == 0
    assert service.errors() == ""
