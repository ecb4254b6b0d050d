"""A project's own tests prove that its deployment agrees, and fail when one place alone changes."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .environments import environment

DEPLOYED = ("systemd", "docker", "kubernetes")
SLUG = "tornado-service"
ENV, NGINX = "deploy/production.env", f"deploy/nginx/{SLUG}.conf"
SOCKET, SERVICE = (f"deploy/systemd/{SLUG}.{kind}" for kind in ("socket", "service"))
COMPOSE, BASE = "deploy/docker/compose.yaml", "deploy/kubernetes/base"
PROMETHEUS, RULES = "deploy/prometheus/prometheus.yml", f"deploy/prometheus/{SLUG}.rules.yml"

# What is changed in one file, as an expression and what takes its place.
CHANGES = [
    ("systemd", ENV, "APP_WORKERS=4", "APP_WORKERS=3"),
    ("systemd", ENV, "APP_PORT=8000", "APP_PORT=8100"),
    ("systemd", ENV, "APP_PORT_PER_WORKER=true", "APP_PORT_PER_WORKER=false"),
    ("systemd", ENV, "APP_ADMIN_PORT=9000", "APP_ADMIN_PORT=8"),
    ("systemd", ENV, "APP_MAX_BODY_SIZE=1048576", "APP_MAX_BODY_SIZE=1048577"),
    ("systemd", ENV, "APP_DRAIN_TIMEOUT=25", "APP_DRAIN_TIMEOUT=60"),
    ("systemd", ENV, "APP_IDLE_TIMEOUT=75", "APP_IDLE_TIMEOUT=60"),
    ("systemd", ENV, "APP_TRUSTED_PROXIES=127.0.0.1/32", "APP_TRUSTED_PROXIES=10.0.0.0/8"),
    ("systemd", NGINX, r"\n +server 127.0.0.1:8003 max_fails=0;", ""),
    ("systemd", NGINX, "127.0.0.1:8002", "127.0.0.1:8004"),
    ("systemd", NGINX, "127.0.0.1:8000", "127.0.0.1:9000"),
    ("systemd", NGINX, "client_max_body_size 1048576;", "client_max_body_size 2m;"),
    ("systemd", NGINX, '# "https://app.example"', '"https://app.example"'),
    ("systemd", SOCKET, r"\nListenStream=127.0.0.1:8001", ""),
    ("systemd", SOCKET, "127.0.0.1:8003", "127.0.0.1:8004"),
    ("systemd", SERVICE, "TimeoutStopSec=45", "TimeoutStopSec=25"),
    ("systemd", ENV, "APP_ADMIN_PORT=9000", "APP_ADMIN_PORT=9001"),
    ("systemd", ENV, "APP_ADMIN_ADDRESS=127.0.0.1", "APP_ADMIN_ADDRESS=127.0.0.2"),
    ("systemd", ENV, "APP_WORKERS=4", "APP_WORKERS=1"),
    ("systemd", PROMETHEUS, "127.0.0.1:9000", "127.0.0.1:8000"),
    ("systemd", PROMETHEUS, f"job_name: {SLUG}", "job_name: another"),
    ("systemd", RULES, "workers_ready", "ready_workers"),
    ("docker", PROMETHEUS, "app:9000", "app:9001"),
    ("docker", PROMETHEUS, "app:9000", "service:9000"),
    ("docker", ENV, "APP_WORKERS=4", "APP_WORKERS=5"),
    ("docker", ENV, "APP_TRUSTED_PROXIES=172.30.87.3/32", "APP_TRUSTED_PROXIES=172.30.87.2/32"),
    ("docker", NGINX, "172.30.87.2:8001", "172.30.87.2:9001"),
    ("docker", COMPOSE, "ipv4_address: 172.30.87.2", "ipv4_address: 172.30.87.4"),
    ("docker", COMPOSE, "stop_grace_period: 30s", "stop_grace_period: 20s"),
    ("docker", COMPOSE, r"\}:80\"", '}:8000"'),
    ("kubernetes", ENV, "APP_PORT=8000", "APP_PORT=8080"),
    ("kubernetes", ENV, "APP_ADMIN_PORT=9000", "APP_ADMIN_PORT=9001"),
    ("kubernetes", ENV, "APP_DRAIN_DELAY=10", "APP_DRAIN_DELAY=30"),
    ("kubernetes", f"{BASE}/deployment.yaml", "containerPort: 8000", "containerPort: 8080"),
    ("kubernetes", f"{BASE}/deployment.yaml", "name: admin", "name: health"),
    ("kubernetes", PROMETHEUS, r"\[production\]", "[staging]"),
    ("kubernetes", f"{BASE}/service.yaml", "targetPort: http", "targetPort: admin"),
]


Suite = Callable[[Path], tuple[int, str]]


@pytest.fixture(scope="module")
def suite(bake: Callable[..., Path], shared: Path) -> Iterator[Suite]:
    """Runs the tests of the deployment of a project. Returns the exit code and the output."""
    python = environment(bake(deploy="docker"), shared)  # which has all that any of them imports
    command = [python, Path(__file__).with_name("suites.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout

        def run(project: Path) -> tuple[int, str]:
            print(project, file=process.stdin, flush=True)
            code, output = json.loads(process.stdout.readline())
            return code, output

        yield run
        process.stdin.close()
        assert process.wait() == 0


@pytest.fixture(scope="module")
def copies(bake: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A project for each deployment, to be changed."""
    folder = tmp_path_factory.mktemp("copies")
    return {deploy: shutil.copytree(bake(deploy=deploy), folder / deploy) for deploy in DEPLOYED}


@contextmanager
def changed(path: Path, before: str, after: str) -> Iterator[None]:
    """Replace what matches an expression in a file, and restore the file afterwards."""
    original = path.read_text("utf-8")
    text, count = re.subn(before, after, original, count=1)
    assert count == 1, f"{before!r} is not in {path}"
    path.write_text(text, "utf-8")
    yield
    path.write_text(original, "utf-8")


# The default number is that of the projects in test_projects.py, which run these tests too.
@pytest.mark.parametrize("workers", ["1", "2", "64"])
@pytest.mark.parametrize("deploy", DEPLOYED)
def test_unchanged_deployment_is_consistent(
    bake: Callable[..., Path], suite: Suite, deploy: str, workers: str
) -> None:
    code, output = suite(bake(deploy=deploy, workers=workers))
    assert code == pytest.ExitCode.OK, output


@pytest.mark.parametrize(
    ("deploy", "name", "before", "after"),
    CHANGES,
    ids=[
        f"{deploy}-{Path(name).name}-{after or before}" for deploy, name, before, after in CHANGES
    ],
)
def test_change_in_one_place_is_detected(
    copies: dict[str, Path], suite: Suite, deploy: str, name: str, before: str, after: str
) -> None:
    with changed(copies[deploy] / name, before, after):
        code, output = suite(copies[deploy])
    assert code == pytest.ExitCode.TESTS_FAILED, output
