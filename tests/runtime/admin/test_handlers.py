import json

import pytest

from runtime.status import WorkerStatus

from .support import Client, FakeStatus, Record


@pytest.mark.parametrize("reason", [None, "starting", "draining"])
async def test_it_is_alive_ready_or_not(
    admin: Client, status: FakeStatus, reason: str | None
) -> None:
    status.reasons += [reason] if reason else []
    response = await admin.get("/livez")
    assert (response.code, json.loads(response.body)) == (200, {"live": True})


async def test_a_service_that_is_ready_says_so(admin: Client) -> None:
    response = await admin.get("/readyz")
    assert (response.code, json.loads(response.body)) == (200, {"ready": True})


async def test_a_service_that_is_not_says_why(admin: Client, status: FakeStatus) -> None:
    status.reasons += ["starting", "no database"]
    response = await admin.get("/readyz")
    assert response.code == 503
    assert json.loads(response.body) == {"ready": False, "reasons": ["starting", "no database"]}


async def test_it_tells_how_each_worker_is(admin: Client, status: FakeStatus) -> None:
    assert json.loads((await admin.get("/workers")).body) == {"workers": []}
    status.workers = [WorkerStatus(0, 4242, True, 3, 0.5, 0), WorkerStatus(1, 0, False, 0, 0.0, 7)]
    assert json.loads((await admin.get("/workers")).body)["workers"] == [
        {
            "worker": 0,
            "pid": 4242,
            "ready": True,
            "requests_in_flight": 3,
            "event_loop_lag": 0.5,
            "restarts": 0,
        },
        {
            "worker": 1,
            "pid": 0,
            "ready": False,
            "requests_in_flight": 0,
            "event_loop_lag": 0.0,
            "restarts": 7,
        },
    ]


async def test_the_admin_port_knows_nothing_of_the_service(admin: Client) -> None:
    response = await admin.get("/items/cup")
    assert response.code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_probes_are_logged_at_level_debug(admin: Client, log_records: list[Record]) -> None:
    await admin.get("/readyz")
    [line] = [record for record in log_records if record["logger"] == "access"]
    assert (line["level"], line["url.path"]) == ("debug", "/readyz")


async def test_a_probe_that_finds_it_not_ready_is_no_error(
    admin: Client, status: FakeStatus, log_records: list[Record]
) -> None:
    status.reasons += ["draining"]
    await admin.get("/readyz")
    assert [record["level"] for record in log_records if record["logger"] == "access"] == ["debug"]
