"""Metrics of real processes, as a real Prometheus and its promtool see them."""

import json
import os
import random
import re
import signal
import socket
import string
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..tools import needs
from .harness import (
    ADMIN,
    Service,
    Starter,
    children,
    parse,
    read_to_end,
    request,
    starter,
    until,
)
from .load import MIX, Load
from .operate import reload, renew, send_requests, start_on_ports
from .prometheus import Prometheus, prometheus

BUCKETS = "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 +Inf"
OTHERS = 'http_request_method="_OTHER",http_response_status_code="405",http_route="none"'
"""What is told apart of requests with a made-up method to a made-up path."""

REQUESTS = "http_server_request_duration_seconds_count"
LAG = "event_loop_lag_seconds"

TICKS = os.sysconf("SC_CLK_TCK")


def start_sharing(run: Starter, workers: int) -> Service:
    """Start workers, all ready, on the same port."""
    service = run.faulty(APP_WORKERS=workers, QUIET=1)
    service.workers(workers)
    return service


def scrape(service: Service) -> dict[str, float]:
    """Read the metrics: the value of each series, which goes by its name and labels."""
    text = service.ask("/metrics", admin=True).body.decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in lines}


def total(scraped: dict[str, float], name: str) -> float:
    """Add up the series of a name."""
    return sum(value for series, value in scraped.items() if series.partition("{")[0] == name)


def of_worker(name: str, worker: int) -> str:
    return f'{name}{{worker="{worker}"}}'


def ask(port: int, path: str, method: str = "GET") -> int:
    """Ask a certain worker. Returns the status."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request(path, method, Connection="close"))
        return parse(read_to_end(connection)).status


def cpu_seconds(pid: int) -> float:
    """Tell how much a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


# Exact


def test_counters_are_exact_whatever_happens_to_workers(run: Starter, project: Path) -> None:
    service = start_sharing(run, 3)
    killed: Counter[str] = Counter()
    with prometheus(project, run.folder, service) as watching:
        with Load(service.port, [*MIX, "/nowhere"]) as load:
            for number in range(1, 7):
                until(lambda: load.answered >= 3_000 * number, "requests")  # noqa: B023
                if number % 2:
                    slot = number // 2
                    victim = service.processes()[slot]
                    until(lambda: victim in load.pids, "a connection of the worker")  # noqa: B023
                    renew(service, slot)
                    killed[str(slot)] += 1
                else:
                    reload(service)
                until(lambda: {*service.workers(3)} <= {*load.by_pid}, "an answer of each worker")
            until(lambda: load.answered >= 20_000, "20,000 requests")
        watching.wait_for_scrape()
        counted = watching.value(f"sum({REQUESTS})")
        restarts = watching.query("worker_restarts_total")
        check_that_nothing_fell(watching)
    print("answered:", load.answered, "counted:", counted, "cut:", load.kinds())
    assert counted is not None
    assert set(load.kinds()) <= {"cut", "reset"}
    # What was cut may have been counted. What a worker was killed over, its answer sent, may not.
    assert -killed.total() <= counted - load.answered <= len(load.failures)
    assert len(load.by_pid) == 3 + 3 + 3 * 3
    assert {labels["worker"]: value for labels, value in restarts} == killed
    assert killed == {"0": 1, "1": 1, "2": 1}


def check_that_nothing_fell(watching: Prometheus) -> None:
    """No scrape failed, none lacked a series that was there before, and no counter ever fell."""
    scrapes = watching.samples("up")
    [ups] = scrapes.values()
    counters = watching.samples('{__name__=~"http_server_request_duration_seconds_.+"}')
    counters |= watching.samples("worker_restarts_total")
    print("scrapes:", len(ups), "counters:", len(counters))
    assert len(ups) > 10
    assert {up for _, up in ups} == {1}
    assert len(counters) == 3 + 17 * len(watching.query(REQUESTS))
    for name, samples in counters.items():
        times = [at for at, _ in samples]
        assert times == [at for at, _ in ups if at >= times[0]], name
        values = [value for _, value in samples]
        assert values == sorted(values), name


# Bounded


def shared_memory(pid: int) -> tuple[int, int]:
    """Tell how much memory a process shares: bytes of addresses, and bytes that are used."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    maps = re.findall(r"/dev/zero \(deleted\)\nSize: +(\d+) kB\n(?:.+\n)*?Rss: +(\d+) kB", text)
    assert maps
    return sum(int(size) for size, _ in maps) * 1024, sum(int(rss) for _, rss in maps) * 1024


def opened(pid: int) -> set[str]:
    """List what files a process has open or in its memory."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {os.readlink(link) for link in links} | {line.split(maxsplit=5)[-1] for line in maps}


KNOWN = ["/", "/greetings/Ada", "/nowhere"]


def visit(service: Service, workers: range) -> None:
    """Ask each worker for all that is known, and wait until that is counted."""
    before = total(scrape(service), REQUESTS)
    for worker in workers:
        for path in KNOWN:
            ask(service.port + worker, path)
    # An answer is counted when it has been sent. Who is killed in between does not count it.
    due = before + len(workers) * len(KNOWN)
    until(lambda: total(scrape(service), REQUESTS) >= due, "all are counted")


def test_neither_replacements_nor_paths_make_it_grow(run: Starter, tmp_path: Path) -> None:
    files = tmp_path / "temporary"
    files.mkdir()
    workers = range(4)
    service = start_on_ports(run, len(workers), TMPDIR=files)
    admin = service.processes()[ADMIN]

    def replace(rounds: int) -> None:
        for number in range(rounds):
            # Every other one only, for after many deaths in a row the next one has to wait.
            signum = signal.SIGKILL if number % 2 else signal.SIGTERM
            renew(service, *workers, signum=signum)
            visit(service, workers)

    visit(service, workers)
    first = scrape(service)
    replace(10)
    before, (size, used) = scrape(service), shared_memory(admin)
    replace(10)
    after = scrape(service)
    assert first.keys() == before.keys() == after.keys()
    assert total(after, "worker_restarts_total") == 10 * len(workers)
    assert total(after, REQUESTS) == 21 * len(workers) * len(KNOWN)

    names = ["".join(random.choices(string.ascii_letters, k=12)) for _ in range(2_000)]
    paths = [random.choice(["/", "/greetings/"]) + name for name in names]
    with Load(service.port, paths) as load:
        until(lambda: load.answered >= len(paths), "random paths")
    assert load.kinds() == {}
    assert scrape(service).keys() == first.keys()
    for name in names[:200]:
        ask(service.port + random.choice(workers), f"/{name}", method=name.upper())
    due = total(after, REQUESTS) + load.answered + 200
    until(lambda: total(scrape(service), REQUESTS) == due, "all are counted")
    assert {series.partition("{")[2] for series in scrape(service).keys() - first.keys()} == {
        *(f'{OTHERS},le="{bucket}"}}' for bucket in BUCKETS.split()),
        OTHERS + "}",
    }

    seconds, computed = [], cpu_seconds(admin)
    for _ in range(50):
        asked = time.monotonic()
        scrape(service)
        seconds.append(time.monotonic() - asked)
    computed = (cpu_seconds(admin) - computed) / 50
    print("series:", len(after), "scrape, median:", sorted(seconds)[25], "computed:", computed)
    print("shared memory:", size, "used:", used, "->", shared_memory(admin)[1])
    assert computed < 0.05
    assert shared_memory(admin)[0] == shared_memory(service.process.pid)[0] == size
    assert shared_memory(admin)[1] - used < 128 * 1024
    # The folder of the control socket.
    assert [path.name for path in files.iterdir()] == [f"tornado-service-{os.getuid()}"]
    for pid in [service.process.pid, *children(service.process.pid)]:
        assert str(service.log_path) in opened(pid)
        assert not [name for name in opened(pid) if name.startswith(("/dev/shm/", str(files)))]
    assert [message for message in service.messages() if "too many" in message] == []


# Named


@pytest.fixture(params=["prefork", "single"])
def observed(
    request: pytest.FixtureRequest, bake: Callable[..., Path], python: Path, tmp_path: Path
) -> Iterator[tuple[Path, Service]]:
    """A project, and a service of it that has answered and has failed."""
    project = bake(processes=request.param)
    with starter(python, tmp_path, project / "src") as run:
        service = start_on_ports(run, 2 if request.param == "prefork" else 1)
        for path in ["/", "/nowhere", "/fail"]:
            service.ask(path)
        yield project, service


def test_promtool_has_nothing_to_say(observed: tuple[Path, Service]) -> None:
    _, service = observed
    page = service.ask("/metrics", admin=True).body
    assert promtool(page) == (0, "")
    # The twin: it does read this.
    assert promtool(page + b"# TYPE requests counter\nrequests 1\n")[0] != 0


def promtool(page: bytes) -> tuple[int, str]:
    done = subprocess.run(
        [needs("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=60
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def test_dashboard_and_rules_know_what_there_is(observed: tuple[Path, Service]) -> None:
    project, service = observed
    used = expressions(project)
    assert len(used["dashboard"]) > 10
    assert len(used["rules"]) > 5
    wanted = {name for some in used.values() for one in some for name in names_in(one)}
    with (
        prometheus(project, service.log_path.parent, service) as watching,
        Load(service.port, ["/", "/fail", "/nowhere"], 2, pause=0.05),
    ):
        # Alerts have series only while they are near.
        until(lambda: wanted - {"ALERTS"} <= watching.names(), f"{wanted}")
        assert "not_there" not in watching.names()
        until(lambda: not unanswered(watching, used["dashboard"]), "something in each panel")
        assert unanswered(watching, ["sum(not_there)"]) == ["sum(not_there)"]
        assert {rule["health"] for rule in watching.rules()} == {"ok"}


def expressions(project: Path) -> dict[str, list[str]]:
    """List the expressions of the dashboards and of the alert rules."""
    deploy = project / "deploy"
    dashboards = [json.loads(path.read_text()) for path in deploy.glob("grafana/**/*.json")]
    rules = [yaml.safe_load(p.read_text()) for p in deploy.glob("prometheus/*.rules.yml")]
    return {"dashboard": list(texts_of("expr", dashboards)), "rules": list(texts_of("expr", rules))}


def texts_of(key: str, data: Any) -> Iterator[str]:
    """Find the texts that stand under a key, however deep."""
    if isinstance(data, dict):
        yield from (value for name, value in data.items() if name == key)
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from texts_of(key, value)


def names_in(expression: str) -> set[str]:
    """Find the names of metrics in an expression."""
    for other in (
        r'"[^"]*"',
        r"\{[^}]*\}",
        r"\[[^]]*\]",
        r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)",
    ):
        expression = re.sub(other, "", expression)
    return set(
        re.findall(r"\b(?!(?:and|or|unless|bool|offset)\b)[a-z]\w*\b(?!\s*\()", expression, re.I)
    )


def test_names_are_found_in_expressions() -> None:
    expression = 'sum by (job, le) (rate(a_b{c="d"}[5m])) / on (e) f{g=~"h{i}"} > 1e3 or vector(0)'
    assert names_in(expression) == {"a_b", "f"}


VARIABLES = {
    "$__rate_interval": "5s",
    "$__range": "1m",
    "$job": "tornado-service",
    "$instance": ".*",
    "$worker": ".*",
}


def unanswered(watching: Prometheus, expressions: list[str]) -> list[str]:
    """List the expressions of a dashboard that show nothing."""
    found = []
    for expression in expressions:
        asked = expression
        for variable, value in VARIABLES.items():
            asked = asked.replace(variable, value)
        if not watching.query(asked):
            found.append(expression)
    return found


# What a scrape costs


def test_scrapes_are_answered_while_all_workers_are_blocked(run: Starter) -> None:
    service = start_on_ports(run, APP_HANG_TIMEOUT=0)
    first, second = (send_requests(service.port + worker, "/block/5") for worker in (0, 1))
    with first, second:
        until(lambda: scrape(service)["workers_ready"] == 0, "no worker that answers")
        lags = [scrape(service)[of_worker(LAG, 0)] for _ in range(20)]
        assert scrape(service)["workers_ready"] == 0, "the workers are no longer blocked"
    assert lags == sorted(lags)
    assert lags[0] > 1.5
    until(lambda: scrape(service)["workers_ready"] == 2, "both ready")
    assert ask(service.port, "/") == ask(service.port + 1, "/") == 200


@pytest.mark.seconds
def test_idle_workers_do_nothing_for_a_scrape(run: Starter) -> None:
    service = start_on_ports(run)

    def computed() -> float:
        return sum(map(cpu_seconds, service.workers()))

    before, began = computed(), time.monotonic()
    for _ in range(200):
        scrape(service)
    seconds, with_scrapes = time.monotonic() - began, computed() - before
    before = computed()
    time.sleep(seconds)
    without = computed() - before
    print(
        f"in {seconds:.2f} s the workers computed {with_scrapes} s, and {without} s without scrapes"
    )
    # A millisecond for each scrape would be 0.2.
    assert with_scrapes < without + 0.1


@pytest.mark.seconds
def test_scrapes_hold_up_no_answer(run: Starter) -> None:
    service = start_sharing(run, 2)
    figures = []
    for scrapers in (0, 1):
        with (
            Load(service.port, MIX, pause=0.01) as load,
            Load(service.admin_port, ["/metrics"], scrapers) as scraper,
        ):
            until(lambda: load.answered >= 1_000, "requests")
        assert load.kinds() == scraper.kinds() == {}
        p95 = sorted(load.seconds)[int(len(load.seconds) * 0.95)]
        figures.append((p95, scraper.answered))
    print("p95 and scrapes:", figures)
    assert min(scrapes for _, scrapes in figures[1::2]) > 20
    assert max(p95 for p95, _ in figures) < 0.5
