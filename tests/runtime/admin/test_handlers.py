"""Health checks and the status of the workers, on the admin port."""

import platform
from datetime import UTC, datetime, timedelta

import pytest
from runtime.admin.handlers import make_admin_app
from runtime.checksums import RUNTIME
from runtime.extensions import Extension
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.monitor.monitor import Monitor
from runtime.settings import Settings
from runtime.status import ProcessDetails, ResourceStatus, StatusSource, WorkerStatus
from runtime.testing import Client, Record, response_json, response_problem, serving

from ..support.access import access_lines
from ..support.fakes import ORDERS, FakeStatus


def worker(slot: int, version: str = "", revision: str = "") -> WorkerStatus:
    details = ProcessDetails(version, revision)
    return WorkerStatus(slot, 4242, True, 0, 0.0, 0, details=details)


@pytest.mark.parametrize("reason", [None, "starting", "draining"])
async def test_livez_is_200_whether_ready_or_not(
    admin: Client, status: FakeStatus, reason: str | None
) -> None:
    status.reasons += [reason] if reason else []
    response = await admin.get("/livez")
    assert (response.code, response_json(response)) == (200, {"live": True})


async def test_readyz_is_200_if_ready(admin: Client) -> None:
    response = await admin.get("/readyz")
    assert (response.code, response_json(response)) == (200, {"ready": True})


async def test_readyz_is_503_with_the_reasons_if_not_ready(
    admin: Client, status: FakeStatus
) -> None:
    status.reasons += ["starting", "no database"]
    response = await admin.get("/readyz")
    assert response.code == 503
    assert response_json(response) == {"ready": False, "reasons": ["starting", "no database"]}


@pytest.mark.parametrize("reasons", [[], ["resource orders fails: OSError (for 12 s, ...)"]])
async def test_readyz_has_the_resources_that_are_checked(
    admin: Client, status: FakeStatus, reasons: list[str]
) -> None:
    status.reasons += reasons
    status.resources.append(ResourceStatus("orders", [1], "OSError", 12.3, 0.8))
    response = await admin.get("/readyz")
    assert response.code == (503 if reasons else 200)
    assert response_json(response) == {
        "ready": not reasons,
        **({"reasons": reasons} if reasons else {}),
        "resources": [
            {
                "resource": "orders",
                "failing_workers": [1],
                "error": "OSError",
                "failing_for": 12.3,
                "checked_ago": 0.8,
            }
        ],
    }


async def test_workers_returns_the_status_of_each_worker(admin: Client, status: FakeStatus) -> None:
    assert response_json(await admin.get("/workers")) == {"workers": []}
    details = ProcessDetails("1.2.0", "v1.2.0-3-g0123456")
    status.workers = [
        WorkerStatus(0, 4242, True, 3, 0.5, 0, "ready", 60.0, 17, 1 << 26, 1, 2, details),
        WorkerStatus(1, 0, False, 0, 0.0, 7),
    ]
    assert response_json(await admin.get("/workers"))["workers"] == [
        {
            "worker": 0,
            "pid": 4242,
            "ready": True,
            "requests_in_flight": 3,
            "event_loop_lag": 0.5,
            "restarts": 0,
            "state": "ready",
            "age": 60.0,
            "requests": 17,
            "memory": 1 << 26,
            "websockets": 1,
            "event_streams": 2,
            "details": {"version": "1.2.0", "revision": "v1.2.0-3-g0123456", "checks": []},
        },
        {
            "worker": 1,
            "pid": 0,
            "ready": False,
            "requests_in_flight": 0,
            "event_loop_lag": 0.0,
            "restarts": 7,
            "state": "missing",
            "age": 0.0,
            "requests": 0,
            "memory": 0,
            "websockets": 0,
            "event_streams": 0,
            "details": {"version": "", "revision": "", "checks": []},
        },
    ]


async def test_version_is_what_all_workers_run(admin: Client, status: FakeStatus) -> None:
    body = response_json(await admin.get("/version"))
    assert [body[name] for name in ("name", "version", "revision", "workers")] == [
        "orders",
        None,
        None,
        [],
    ]
    assert body["template"] == (RUNTIME / "VERSION").read_text().strip()
    assert body["python"] == platform.python_version()
    age = datetime.now(UTC) - datetime.fromisoformat(body["started"])
    assert timedelta(0) <= age < timedelta(minutes=1)
    status.workers = [worker(0, "1.2.0", "v1.2.0-3"), worker(1, "1.2.0", "v1.2.0-3"), worker(2)]
    body = response_json(await admin.get("/version"))
    assert (body["version"], body["revision"]) == ("1.2.0", "v1.2.0-3")
    assert body["workers"] == [
        {"worker": slot, "version": "1.2.0", "revision": "v1.2.0-3"} for slot in (0, 1)
    ]


async def test_version_is_null_where_workers_differ(admin: Client, status: FakeStatus) -> None:
    status.workers = [worker(0, "1.2.0", "v1.2.0-3"), worker(1, "1.2.0", "v1.2.0-4")]
    body = response_json(await admin.get("/version"))
    assert (body["version"], body["revision"]) == ("1.2.0", None)
    assert [worker["revision"] for worker in body["workers"]] == ["v1.2.0-3", "v1.2.0-4"]


async def test_admin_port_has_no_routes_of_the_service(admin: Client) -> None:
    response = await admin.get("/items/cup")
    assert response.code == 404
    response_problem(response)


async def test_extensions_add_routes(status: FakeStatus) -> None:
    class ShowReasons(Handler):
        def initialize(self, status: StatusSource) -> None:
            self._status = status

        def get(self) -> None:
            self.reply(self._status.not_ready_reasons())

    class Reasons(Extension):
        def admin_routes(self, status: StatusSource) -> list[Route]:
            return [Route("/reasons", ShowReasons, status=status)]

    status.reasons += ["starting"]
    app = make_admin_app(Settings(), status, Monitor(ORDERS), [Extension(), Reasons()])
    async with serving(app) as client:
        assert response_json(await client.get("/reasons")) == ["starting"]
        assert (await client.get("/livez")).code == 200


async def test_probes_are_logged_at_level_debug(admin: Client, log_records: list[Record]) -> None:
    await admin.get("/readyz")
    [line] = access_lines(log_records)
    assert (line["level"], line["url.path"]) == ("debug", "/readyz")


async def test_failed_readiness_probe_is_not_logged_as_an_error(
    admin: Client, status: FakeStatus, log_records: list[Record]
) -> None:
    status.reasons += ["draining"]
    await admin.get("/readyz")
    assert [line["level"] for line in access_lines(log_records)] == ["debug"]
