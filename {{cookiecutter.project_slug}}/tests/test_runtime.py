"""The service as a real process: it starts, responds and drains."""

import signal
from http import HTTPStatus

from tornado.httpclient import AsyncHTTPClient

from {{ cookiecutter.package_name }}.runtime.testing import (
    ServiceStarter,
    response_problem,
)


async def test_service_starts_responds_and_drains(start_service: ServiceStarter) -> None:
    service = start_service()
    port, admin_port = await service.ports()
    http = AsyncHTTPClient()
    response = await http.fetch(f"http://127.0.0.1:{port}/nowhere", raise_error=False)
    assert response.code == HTTPStatus.NOT_FOUND
    response_problem(response)
    ready = await http.fetch(f"http://127.0.0.1:{admin_port}/readyz")
    assert ready.body == b'{"ready":true}'
    service.send_signal(signal.SIGTERM)
    assert await service.exit_code() == 0
    assert service.errors() == ""
    assert service.messages()[-1] == "stopped"


async def test_bad_settings_are_reported(start_service: ServiceStarter) -> None:
    service = start_service(port="eighty", threads=0)
    assert await service.exit_code() == 78
    assert "APP_PORT" in service.errors()
    assert "APP_THREADS" in service.errors()
