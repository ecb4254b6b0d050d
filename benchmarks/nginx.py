"""Balance of the workers behind Nginx, with the configuration of the project."""

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .bench import Bench
from .environments import SLUG, BenchmarkError, needs
from .figures import RATIO, Figure, Row
from .load import put_load
from .process import free_port, running, stop, wait_until_it_responds

ROW = Row(
    "nginx-balance", "requests on the idlest worker / on the busiest, Nginx", RATIO, 0.90, True
)
ROWS = [ROW]
WORKERS = 4
FIRST_PORT = 8000
"""The port of the first worker in the configuration of the project."""

# What a distribution has around the configuration of a site.
MAIN = """\
{user}
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include {slug}.conf;
}}
"""


def replace(text: str, changes: dict[str, str]) -> str:
    """Replace parts of a text. Raises `BenchmarkError` for one that is not there."""
    for old, new in changes.items():
        if old not in text:
            raise BenchmarkError(f"the configuration of Nginx has no {old!r}")
        text = text.replace(old, new)
    return text


def configure(text: str, folder: Path, port: int, first_worker: int) -> str:
    """Change ports, places and the limits for one client in the project's configuration."""
    servers = re.compile(r"(?<=server 127\.0\.0\.1:)\d+")
    if len(servers.findall(text)) != WORKERS:
        raise BenchmarkError(f"the configuration of Nginx has not {WORKERS} servers")
    text = servers.sub(lambda found: str(int(found[0]) - FIRST_PORT + first_worker), text)
    changes = {
        "listen 80;": f"listen {port};",
        "listen [::]:80;": f"listen [::]:{port};",
        "/var/log/nginx/": f"{folder}/",
        "rate=100r/s": "rate=100000r/s",
        "_connections 100;": "_connections 60000;",
    }
    return replace(text, changes)


@contextmanager
def nginx(bench: Bench, first_worker: int) -> Iterator[tuple[int, Path]]:
    """Start Nginx in front of workers. Yields its port and its access log."""
    folder = bench.folder / "nginx"
    folder.mkdir(exist_ok=True)
    port = free_port()
    text = (bench.project / f"deploy/nginx/{SLUG}.conf").read_text("utf-8")
    (folder / f"{SLUG}.conf").write_text(configure(text, folder, port, first_worker), "utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(user=user, slug=SLUG), "utf-8")
    log, errors = folder / f"{SLUG}.access.log", folder / "stderr"
    log.unlink(missing_ok=True)
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [needs("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"],
            stdin=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_until_it_responds(process, port, errors)
        yield port, log
        # Nginx writes the last lines, and goes.
        process.send_signal(signal.SIGQUIT)
        process.wait()
    finally:
        stop(process)


def requests_by_worker(log: str) -> Counter[str]:
    """Count the requests for each upstream server in Nginx's access log."""
    return Counter(json.loads(line)["upstream.address"] for line in log.splitlines())


def measure(bench: Bench, names: set[str]) -> Iterator[Figure]:
    """Count who served what, under a load that leaves the machine time: see `README.md`."""
    bench.install(bench.service)
    values, total = [], 0
    for number in range(min(3, bench.effort.starts)):
        bench.progress.show(f"nginx-balance: {number + 1}")
        with running(bench.service, WORKERS, {"APP_PORT_PER_WORKER": "true"}) as server:
            for port in range(server.port, server.port + WORKERS):
                wait_until_it_responds(server.process, port, server.errors)
            with nginx(bench, server.port) as (port, log):
                load = put_load(port, seconds=bench.effort.rounds, connections=20, pause_ms=10)
            counts = requests_by_worker(log.read_text("utf-8"))
        total += load.requests
        values.append(min(counts.values()) / max(counts.values()) if len(counts) == WORKERS else 0)
    yield Figure(ROW, values, f"{total:,} requests, {WORKERS} workers")
