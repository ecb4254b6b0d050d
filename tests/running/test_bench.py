"""`make bench` from its command: it measures real servers, and leaves no process behind."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ..bakes import TEMPLATE
from ..tools import needs
from .harness import until

ROWS = ("cpu-vs-tornado", "cpu-2-workers")


def processes_of(folder: Path) -> list[int]:
    """List the processes whose command or environment has a path in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            texts = [(process / name).read_bytes() for name in ("cmdline", "environ")]
            if any(os.fsencode(folder) in text for text in texts):
                found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all is installed and written, once for these tests."""
    return tmp_path_factory.mktemp("bench")


@contextmanager
def bench(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the benchmarks, with all that they install and write in a folder."""
    needs("wrk")
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--quick", *ROWS],
        cwd=TEMPLATE,
        env={
            **os.environ,
            "BENCH_FOLDER": str(folder),
            "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_rows_are_printed_and_kept(folder: Path) -> None:
    with bench(folder) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    results = json.loads((folder / "results/figures.json").read_text())
    assert results.keys() == set(ROWS)
    for name in ROWS:
        median = results[name]["median"]
        # Far from any figure, but no request costs nothing or ten times as much.
        assert 0.1 < median < 10
        assert len(results[name]["values"]) == 2
        assert re.search(rf"^{name} .* {median:.2f}× ", output, re.M), output
    until(lambda: not processes_of(folder), "the end of all processes")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_leaves_no_process(folder: Path, signum: int, code: int) -> None:
    with bench(folder) as process:
        # Three servers, one of which has two workers and more, and wrk.
        until(lambda: len(processes_of(folder)) > 5, "the servers")
        process.send_signal(signum)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    until(lambda: not processes_of(folder), "the end of all processes")
