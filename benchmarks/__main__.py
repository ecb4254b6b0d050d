"""The command of the benchmarks: `make bench`, or `python -m benchmarks [--quick] [name ...]`."""

import argparse
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from . import cpu, faults, nginx, pictures, reload, series, startup, toolchain
from .bench import Bench, Effort
from .environments import FOLDER, BenchmarkError, needs
from .figures import Figure, Row
from .readme import READMES
from .report import HEADINGS, figure_cells, load_results, save_results, table

RESULTS = Path(__file__).with_name("results")
FAULTS = "faults"

Measure = Callable[[Bench, set[str]], Iterator[Figure]]
GROUPS: list[tuple[list[Row], Measure]] = [
    (cpu.ROWS, cpu.measure),
    (startup.ROWS, startup.measure),
    (nginx.ROWS, nginx.measure),
    (reload.ROWS, reload.measure),
    (toolchain.ROWS, toolchain.measure),
]
ROWS = {row.name: row for rows, _ in GROUPS for row in rows}
SERIES = {one.name: one for one in series.SERIES}
NAMES = [*ROWS, FAULTS, *SERIES]
ONLY_BY_NAME = {toolchain.CI_RUN.name}
"""Takes too long to be part of a run of everything, which shows what was measured last."""


def select(names: Sequence[str]) -> list[str]:
    """Return the names of what is to be measured. Raises `BenchmarkError` for an unknown one."""
    if unknown := [name for name in names if name not in NAMES]:
        raise BenchmarkError(f"no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}")
    return list(names) or [name for name in NAMES if name not in ONLY_BY_NAME]


def measure_figures(bench: Bench, names: Sequence[str]) -> Iterator[Figure]:
    """Measure the rows that are wanted, those of a group in one run."""
    for rows, measure in GROUPS:
        if wanted := {row.name for row in rows} & set(names):
            yield from measure(bench, wanted)


def last_measured(folder: Path, names: Sequence[str]) -> list[list[str]]:
    """Return cells for rows that are not measured now, with the values and the date of before."""
    found = load_results(folder / "figures.json")
    return [
        figure_cells(
            Figure(ROWS[name], found[name]["values"], f"on {found[name]['measured'][:10]}")
        )
        for name in names
        if name in found
    ]


def run(bench: Bench, names: Sequence[str], folder: Path) -> bool:
    """Measure, print and save. Returns whether all bounds are kept."""
    cells, results, kept = [], {}, True
    for figure in measure_figures(bench, names):
        bench.progress.clear()
        cells.append(figure_cells(figure))
        print(figure.row.name, cells[-1][2], file=sys.stderr, flush=True)
        results[figure.row.name] = figure.as_json()
        kept &= figure.is_met
        save_results(folder / "figures.json", results)
    if cells:
        others = [] if len(names) == 1 else last_measured(folder, sorted(ONLY_BY_NAME))
        print("\n" + table(HEADINGS, cells + others) + "\n", flush=True)
    if FAULTS in names:
        run_faults(bench, folder)
    for name in names:
        if name in SERIES:
            run_series(bench, SERIES[name], folder)
    return kept


def run_faults(bench: Bench, folder: Path) -> None:
    rows = [asdict(row) for row in faults.measure(bench)]
    bench.progress.clear()
    print(table(faults.HEADINGS, [list(row.values()) for row in rows]) + "\n", flush=True)
    save_results(folder / "faults.json", {row["server"]: row for row in rows})


def run_series(bench: Bench, one: series.Series, folder: Path) -> None:
    found: dict[str, Any] = series.run(bench, one)
    bench.progress.clear()
    headings = [f"{found['title']}: {found['y_label']}", *(f"{x:,}" for x in found["x"])]
    rows = [
        [title, *(f"{middle:,.4g} ({low:,.4g}-{high:,.4g})" for middle, low, high in points)]
        for title, points in found["lines"].items()
    ]
    print(table(headings, rows) + "\n", flush=True)
    save_results(folder / "series.json", {one.name: found})
    pictures.draw(found, folder / f"{one.name}.png")


def prepare() -> None:
    """Use two processors, as the figures of the README do, and all the files that are allowed."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def leave(signum: int, frame: object) -> NoReturn:
        raise SystemExit(128 + signum)

    # A shell may have started this in the background, with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Like Ctrl-C: whatever was started is stopped.
    signal.signal(signal.SIGTERM, leave)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Compare with other servers.")
    parser.add_argument("--quick", action="store_true", help="see that all of it runs")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    arguments = parser.parse_args()
    try:
        names = select(arguments.names)
        needs("wrk")
        prepare()
        # What is measured quickly is no figure for anybody.
        folder = FOLDER / "results" if arguments.quick else RESULTS
        if arguments.quick:
            run(Bench(Effort.quick()), names, folder)
            return 0
        kept = run(Bench(Effort()), names, folder)
        for readme in READMES:
            readme.update(ROWS.values(), load_results(folder / "figures.json"))
        return 0 if kept else 1
    except BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
