"""Several workers: they count their orders together."""

import json
import signal

from tornado.httpclient import AsyncHTTPClient

from tornado_service.runtime.testing import ServiceProcess, ServiceStarter


def workers_with_orders(service: ServiceProcess) -> set[int]:
    return {r["worker"] for r in service.records() if r["message"] == "POST /orders 201"}


async def test_orders_of_all_workers_are_counted(start_service: ServiceStarter) -> None:
    service = start_service(workers=2)
    port, admin_port = await service.ports()
    http = AsyncHTTPClient()
    placed = 0
    # Each request has a connection of its own, which either worker may accept.
    while len(workers_with_orders(service)) < 2:
        await http.fetch(
            f"http://127.0.0.1:{port}/orders",
            method="POST",
            headers={"Content-Type": "application/json"},
            body=json.dumps({"item": "tea", "quantity": 1}),
        )
        placed += 1
        assert placed < 1000
    metrics = await http.fetch(f"http://127.0.0.1:{admin_port}/metrics")
    assert f"orders_total {placed}.0" in metrics.body.decode().splitlines()
    service.send_signal(signal.SIGTERM)
    assert await service.exit_code() == 0
    assert service.errors() == ""
