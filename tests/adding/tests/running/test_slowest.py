"""The slowest requests are in the log of a service that has stopped."""

from collections.abc import Callable
from pathlib import Path

from .environments import environment
from .harness import starter


def test_slowest_requests_are_logged(
    bake: Callable[..., Path], shared: Path, tmp_path: Path
) -> None:
    project = bake(slowest=True, processes="single")
    with starter(environment(project, shared), tmp_path, project / "src") as run:
        service = run.start("-m", "tornado_service", SLOWEST_COUNT="1")
        assert service.ask("/greetings/Ada").status == 200
        service.signal()
        assert service.wait() == 0
        assert service.errors() == ""
        service.wait_for_message(r"slowest: GET /greetings/Ada took 0\.\d+ s")
