"""More and fewer workers, under load."""

import pytest

from .harness import FAULTS, Starter
from .load import MIX, Load
from .operate import reload

SOCKET = "control.sock"


@pytest.mark.parametrize("requests", [500, pytest.param(5_000, marks=pytest.mark.exhaustive)])
def test_number_of_workers_changes_under_load_and_no_request_fails(
    run: Starter, requests: int
) -> None:
    service = run.faulty(APP_WORKERS=2, APP_CONTROL_SOCKET=SOCKET, QUIET=1)
    service.workers(2)
    with (
        Load(service.port, MIX) as load,
        # So that workers which drain have requests in flight, and connections that begin.
        Load(service.port, ["/who/0.3"], 4) as slow,
        Load(service.admin_port, ["/readyz", "/metrics"], 1, pause=0.05) as probe,
    ):
        for before, count in (2, 4), (4, 1), (1, 3):
            load.wait_for(requests)
            command = run.spawn(str(FAULTS), "workers", str(count), APP_CONTROL_SOCKET=SOCKET)
            assert command.wait() == 0, command.errors()
            # Its standard output.
            assert command.log_path.read_text() == f"workers: {before} -> {count}\n"
            workers = service.ask("/workers", admin=True).json["workers"]
            assert [worker["worker"] for worker in workers] == [*range(count)]
            metrics = service.ask("/metrics", admin=True).body.decode()
            assert f"\nworkers_ready {count}.0\n" in metrics
        load.wait_for(requests)
        reload(service)
        load.wait_for(requests)
    assert load.kinds() == slow.kinds() == probe.kinds() == {}
    # All that have served are gone but for the last three, and each of these has served.
    pids = [pid for slot, pid in service.processes().items() if 0 <= slot < count]
    assert set(pids) <= load.by_pid.keys() | slow.by_pid.keys()
    assert [r["message"] for r in service.records() if r["level"] in {"warning", "error"}] == []
    service.signal()
    assert service.wait() == 0
