from pathlib import Path

import pytest

from . import machine

pytest_plugins = ["pytester"]

TESTS = """
import pytest

results = iter([False, True])

@pytest.mark.seconds
def test_first_too_slow():
    assert next(results)

def test_no_seconds():
    assert False
"""


@pytest.mark.parametrize(("stall", "reruns"), [(0.0, 0), (0.4, 0), (0.6, 1)])
def test_test_that_measures_seconds_is_repeated_after_a_stall(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, stall: float, reruns: int
) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(machine, "seconds_stalled", lambda: next(seconds) * stall)
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nmarkers = ["seconds"]')
    pytester.makepyfile(TESTS)
    report = pytester.runpytest_inprocess("-rR", "-p", "no:asyncio", plugins=[machine])
    expected = {"passed": 1, "failed": 1, "rerun": 1} if reruns else {"failed": 2}
    assert report.parseoutcomes() == expected
    assert sum(line.startswith("RERUN") for line in report.outlines) == reruns


def test_stalls_of_processors_and_disk_are_added(tmp_path: Path) -> None:
    assert machine.seconds_stalled(tmp_path) == 0
    (tmp_path / "stat").write_text("cpu  9 9 9 9 9 9 9 200 9 9\ncpu0 9 9 9 9 9 9 9 100 9 9\n")
    assert machine.seconds_stalled(tmp_path) == 2
    (tmp_path / "pressure").mkdir()
    averages = "avg10=0.00 avg60=0.00 avg300=0.00"
    (tmp_path / "pressure/io").write_text(
        f"some {averages} total=9\nfull {averages} total=500000\n"
    )
    assert machine.seconds_stalled(tmp_path) == 2.5


def test_stalls_of_this_system_only_grow() -> None:
    assert 0 <= machine.seconds_stalled() <= machine.seconds_stalled()
