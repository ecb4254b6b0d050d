"""What people wait for: the generation of a project, its tests, and the tests of the template."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .bench import Bench
from .environments import BAKE_OPTIONS, ROOT, BenchmarkError, bake, needs
from .figures import RATIO, Figure, Row, ratios

GENERATION = Row("generation", "generation / a template with one file", RATIO, 2.0)
PROJECT_TESTS = Row("project-tests", "`make test` of a generated project, installed", "s", 15)
CI_RUN = Row("ci-run", "`.ci/run` of the template", "min", 20)
QUICK_ROWS = [GENERATION, PROJECT_TESTS]
ROWS = [*QUICK_ROWS, CI_RUN]


def seconds_of(command: Sequence[str], folder: Path) -> float:
    """Run a command and return how long it took. Raises `BenchmarkError` if it fails."""
    # The tools of this environment are there, and nothing of it is used by accident.
    places = [os.environ["PATH"], str(Path(sys.executable).parent)]
    variables = {**os.environ, "PATH": os.pathsep.join(places)}
    # A make above this one would hand down its flags.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VIRTUAL_ENV", "PYTHONPYCACHEPREFIX"):
        variables.pop(name, None)
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stdout + done.stderr)[-2000:]
        raise BenchmarkError(f"{' '.join(command)}: exit code {done.returncode}:\n{last}")
    return time.monotonic() - started


def measure(bench: Bench, names: set[str]) -> Iterator[Figure]:
    """Measure the rows that are wanted; `.ci/run` takes long."""
    for row, values in (
        (GENERATION, generation),
        (PROJECT_TESTS, project_tests),
        (CI_RUN, ci_run),
    ):
        if row.name in names:
            yield values(bench)


def generation(bench: Bench) -> Figure:
    """Generate a project and, as the floor, from a template with one file, in turn."""
    floor = bench.folder / "floor"
    (floor / "{{cookiecutter.slug}}").mkdir(parents=True, exist_ok=True)
    (floor / "{{cookiecutter.slug}}/README.md").write_text("# {{cookiecutter.slug}}\n", "utf-8")
    (floor / "cookiecutter.json").write_text(json.dumps({"slug": "floor"}), "utf-8")
    output = bench.folder / "generated"

    def seconds(template: Path) -> float:
        shutil.rmtree(output, ignore_errors=True)
        options = [*BAKE_OPTIONS, "--output-dir", str(output)]
        return seconds_of([needs("cookiecutter"), str(template), *options], bench.folder)

    ours, floors = [], []
    for number in range(bench.effort.starts + 1):
        bench.progress.show(f"generation: {number} of {bench.effort.starts}")
        pair = seconds(ROOT), seconds(floor)
        if number > 0:
            ours.append(pair[0])
            floors.append(pair[1])
    note = f"{statistics.median(ours):.2f} s / {statistics.median(floors):.2f} s"
    return Figure(GENERATION, ratios(ours, floors), note)


def project_tests(bench: Bench) -> Figure:
    """Run the tests of a project in which everything is installed."""
    bench.progress.show("project-tests: installing")
    project = bake("tests")
    seconds_of(["make", ".venv/installed"], project)
    count = min(3, bench.effort.starts)
    values = []
    for number in range(count):
        bench.progress.show(f"project-tests: {number + 1} of {count}")
        values.append(seconds_of(["make", "test"], project))
    return Figure(PROJECT_TESTS, values)


def ci_run(bench: Bench) -> Figure:
    """Run `.ci/run` in a fresh clone of what is committed."""
    bench.progress.show("ci-run: up to half an hour")
    clone = bench.folder / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    seconds_of(["git", "clone", "--quiet", str(ROOT), str(clone)], bench.folder)
    return Figure(CI_RUN, [seconds_of([".ci/run"], clone) / 60])
