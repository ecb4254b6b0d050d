"""Who is run once more, and who is not."""

from pathlib import Path

import pytest

from .machine import seconds_taken

pytest_plugins = ["pytester"]

PLAIN = ("-p", "no:asyncio")

# Takes so many seconds between two looks.
TAKES = """
import itertools

from tests.running import machine
from tests.running.machine import pytest_runtest_setup

looks = itertools.count()
machine.seconds_taken = lambda: next(looks) * {seconds}


def pytest_collection_modifyitems(items):
    for item in items:
        machine.run_again_if_disturbed(item)
"""


@pytest.mark.parametrize(("seconds", "again"), [(0, 0), (0.4, 0), (0.6, 1)])
def test_who_fails_while_much_is_taken_is_run_once_more(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, seconds: float, again: int
) -> None:
    monkeypatch.setattr("tests.running.machine.seconds_taken", seconds_taken)
    pytester.makeconftest(TAKES.format(seconds=seconds))
    pytester.makepyfile("def test_good(): pass\n\ndef test_bad(): assert False\n")
    report = pytester.runpytest_inprocess("-rR", *PLAIN)
    assert report.parseoutcomes() == {"passed": 1, "failed": 1} | ({"rerun": 1} if again else {})
    assert sum(line.startswith("RERUN") for line in report.outlines) == again


def test_who_then_passes_has_passed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.running.machine.seconds_taken", seconds_taken)
    pytester.makeconftest(TAKES.format(seconds=1))
    pytester.makepyfile("results = iter([False, True])\n\ndef test(): assert next(results)\n")
    assert pytester.runpytest_inprocess(*PLAIN).parseoutcomes() == {"passed": 1, "rerun": 1}


def test_what_the_system_tells(tmp_path: Path) -> None:
    assert seconds_taken(tmp_path) == 0
    (tmp_path / "stat").write_text("cpu  9 9 9 9 9 9 9 200 9 9\ncpu0 9 9 9 9 9 9 9 100 9 9\n")
    assert seconds_taken(tmp_path) == 2
    (tmp_path / "pressure").mkdir()
    averages = "avg10=0.00 avg60=0.00 avg300=0.00"
    (tmp_path / "pressure/io").write_text(
        f"some {averages} total=9\nfull {averages} total=500000\n"
    )
    assert seconds_taken(tmp_path) == 2.5


def test_this_system_tells() -> None:
    assert 0 <= seconds_taken() <= seconds_taken()
