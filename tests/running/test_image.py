"""The container image, built and run for real, as compose.yaml runs it.

Docker is not needed: buildah builds, podman runs. The base image is made from Debian, since a hub
may be out of reach, and pip installs from a folder.
"""

import importlib.metadata
import json
import os
import platform
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..ports import free_port, free_ports
from ..tools import AS_ROOT, needs
from .harness import Answer, children, is_open, parse, read_to_end, request, until

DOCKER = Path(__file__).with_name("engine")
"""A folder with a docker that is podman or buildah."""

# Debian 12 has the Python that the Dockerfile asks for by default.
BASE, SUITE, PYTHON = "docker.io/library/python:3.11-slim", "bookworm", "3.11"
USER = "10001"
IMAGE = "localhost/tornado-service"
TAG = "v0.1.0"

# What a machine may need that is a container itself.
RUNTIMES = ([], ["--cgroup-manager=cgroupfs", "--runtime=runc"])
# Lower than anybody's, so that no privilege is needed to set them.
LIMITS = ["--ulimit=nofile=4096:4096", "--ulimit=nproc=1000:1000"]


def run(
    *command: str,
    check: bool = True,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
    return done


@dataclass
class Engine:
    """Builds images and runs containers, with a storage of its own."""

    folder: Path
    runtime: list[str] = field(default_factory=list)

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(*self.command("podman"), *self.runtime, *arguments, check=check)

    def command(self, tool: str) -> list[str]:
        places = [f"--root={self.folder}/storage", f"--runroot={self.folder}/run"]
        return [*AS_ROOT, needs(tool), *places]

    def build(self, project: Path, tag: str) -> str:
        """Build a project with `make image`."""
        wheels = self.folder / "wheels"
        options = ["--isolation=chroot", "--format=docker", "--pull-never"]
        # Layers that two images have in common are made once, as Docker does it.
        options.append("--layers")
        # pip looks there for settings that hold for everybody.
        options.append(f"--volume={wheels}:/etc/xdg/pip:ro")
        self.make(project, "image", tag, self.command("buildah"), options)
        return tag

    def make(
        self, project: Path, target: str, tag: str, tool: Sequence[str], options: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile with a tool as its docker."""
        environment = {
            **os.environ,
            "PATH": f"{DOCKER}{os.pathsep}{os.environ['PATH']}",
            "PODMAN": shlex.join(tool),
            "OPTIONS": shlex.join(options),
        }
        command = ["make", target, f"IMAGE={tag}"]
        return run(*command, cwd=project, environment=environment)


@pytest.fixture(scope="module")
def project(bake_into: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in a repository that has a tag."""
    project = bake_into(tmp_path_factory.mktemp("docker"), deploy="docker")
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m1"], ["tag", TAG]):
        run("git", *who, *command, cwd=project)
    return project


@pytest.fixture(scope="module")
def engine(project: Path) -> Iterator[Engine]:
    """What builds and runs, and has the base image."""
    for tool in ("buildah", "podman", "mmdebstrap"):
        needs(tool)
    if AS_ROOT and subprocess.run([*AS_ROOT, "true"], capture_output=True).returncode:
        pytest.skip("containers need root, or sudo without a password")
    # Not in the folder of the tests: podman wants a short path.
    made = Engine(Path(tempfile.mkdtemp(prefix="image-")))
    try:
        make_base(made)
        made.runtime = working_runtime(made)
        collect_wheels(project, made.folder / "wheels")
        yield made
    finally:
        made.podman("rm", "--force", "--all", check=False)
        # podman leaves this mounted if no container could run.
        run(*AS_ROOT, "umount", f"{made.folder}/storage/overlay", check=False)
        run(*AS_ROOT, "rm", "--recursive", "--force", str(made.folder))


def make_base(engine: Engine) -> None:
    """Make an image that has what the Dockerfile needs of the official one."""
    archive = str(engine.folder / "base.tar")
    # In the official image, the command has this name as well.
    link = 'mkdir -p "$1"/usr/local/bin; ln -s ../../bin/python3 "$1"/usr/local/bin/python'
    packages = "--include=python3,python3-pip,coreutils,dash,findutils"
    options = ["--quiet", "--variant=extract", packages, f"--extract-hook={link}"]
    # Not set up, only unpacked: quick, and without compiled modules, as the official one is.
    run(*AS_ROOT, needs("mmdebstrap"), *options, SUITE, archive)
    variables = ["LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
    changes = [f"--change=ENV {variable}" for variable in variables]
    engine.podman("import", "--quiet", *changes, archive, BASE)


def working_runtime(engine: Engine) -> list[str]:
    """Find out how containers run on this machine."""
    for runtime in RUNTIMES:
        engine.runtime = runtime
        tried = engine.podman("run", "--rm", "--network=host", *LIMITS, BASE, "true", check=False)
        if tried.returncode == 0:
            return runtime
    pytest.skip(f"containers do not run here: {tried.stderr.strip().splitlines()[-1]}")


def collect_wheels(project: Path, folder: Path) -> None:
    """Download what pip installs into the image, and let it look nowhere else."""
    systems = [f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in (17, 28)]
    only = ["--only-binary=:all:", f"--python-version={PYTHON}", *systems]
    wanted = ["--constraint=constraints.txt", "flit_core>=4.2,<5", "cyclonedx-bom", "."]
    pip = [needs("uv"), "tool", "run", "pip", "download", "--quiet", f"--dest={folder}"]
    run(*pip, *only, *wanted, cwd=project)
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /etc/xdg/pip\n")


@pytest.fixture(scope="module")
def image(engine: Engine, project: Path) -> str:
    """The image of the default project."""
    return engine.build(project, IMAGE)


@dataclass
class Container:
    """A running container of the service, which shares the network of this machine."""

    engine: Engine
    name: str
    port: int
    admin_port: int

    @property
    def pid(self) -> int:
        """The process that has pid 1 in there."""
        return int(self.inspect("{{.State.Pid}}"))

    def inspect(self, what: str) -> str:
        return self.engine.podman("inspect", "--format", what, self.name).stdout.strip()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.engine.podman("exec", self.name, *command, check=False)

    def ask(self, path: str, port: int | None = None) -> Answer:
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=60) as connection:
            connection.sendall(request(path, Connection="close"))
            return parse(read_to_end(connection))

    def is_ready(self) -> bool:
        assert self.inspect("{{.State.Running}}") == "true", self.logs()
        return is_open(self.admin_port) and self.ask("/readyz", self.admin_port).status == 200

    def logs(self) -> str:
        done = self.engine.podman("logs", self.name)
        return done.stdout + done.stderr


Start = Callable[..., Container]


@pytest.fixture
def start(engine: Engine, project: Path) -> Iterator[Start]:
    """Start an image as compose.yaml says, with other ports and settings."""
    service = yaml.safe_load((project / "deploy/docker/compose.yaml").read_text())["services"][
        "app"
    ]
    as_compose = [
        *(["--read-only", "--read-only-tmpfs=false"] if service["read_only"] else []),
        *(f"--tmpfs={path}" for path in service["tmpfs"]),
        *(f"--cap-drop={name}" for name in service["cap_drop"]),
        *(f"--security-opt={option}" for option in service["security_opt"]),
        f"--stop-timeout={service['stop_grace_period'].removesuffix('s')}",
    ]
    started = []

    def start(image: str, *options: str, **settings: object) -> Container:
        port, admin_port = free_ports(2)
        own = {"APP_PORT": port, "APP_ADMIN_PORT": admin_port, "APP_PORT_PER_WORKER": "false"}
        variables = [f"--env={name}={value}" for name, value in {**own, **settings}.items()]
        # podman wants systemd for asking by itself.
        ours = ["--detach", "--network=host", "--health-interval=disable", *LIMITS]
        name = f"service-{len(started)}"
        container = Container(engine, name, port, admin_port)
        started.append(name)
        engine.podman("run", f"--name={name}", *ours, *as_compose, *variables, *options, image)
        until(container.is_ready, "a service that is ready")
        return container

    yield start
    for name in started:
        engine.podman("rm", "--force", "--time=0", name, check=False)


# What is in it


def test_nothing_but_the_service_is_in_the_image(engine: Engine, image: str, project: Path) -> None:
    root = Path(engine.podman("image", "mount", image).stdout.strip())
    listed = run(*AS_ROOT, "find", str(root), "-xdev").stdout.splitlines()
    names = {"/" + Path(line).relative_to(root).as_posix() for line in listed}
    engine.podman("image", "unmount", image)
    assert "/app/.env" in names
    assert "/venv/bin/tornado-service" in names
    package = "/venv/lib/python3.11/site-packages/tornado_service"
    assert f"{package}/app.py" in names
    assert f"{package}/__pycache__/app.cpython-311.pyc" in names
    # What the health check imports of Python itself is compiled as well.
    assert "/usr/lib/python3.11/__pycache__/argparse.cpython-311.pyc" in names
    assert "/usr/lib/python3.11/__pycache__/turtle.cpython-311.pyc" not in names
    for left_out in ("/app/.venv", "/app/.git", "/app/tests", "/build", "/sbom", "/venv/bin/pip"):
        assert left_out not in names
    assert not [n for n in names if n.endswith(("/conftest.py", "/Dockerfile", "/constraints.txt"))]


def test_sbom_names_all_packages_in_the_image(
    engine: Engine, image: str, bake_into: Callable[..., Path], tmp_path: Path
) -> None:
    project = bake_into(tmp_path, deploy="docker")
    podman = [*engine.command("podman"), *engine.runtime]
    engine.make(project, "sbom", image, podman, ["--network=host", *LIMITS])
    sbom = json.loads((project / "sbom.cdx.json").read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    root = Path(engine.podman("image", "mount", image).stdout.strip())
    folders = [*root.glob("venv/lib/python3.11/site-packages/*.dist-info")]
    installed = [importlib.metadata.PathDistribution(folder) for folder in folders]
    names = {(found.metadata["Name"], found.version) for found in installed}
    engine.podman("image", "unmount", image)
    assert {("tornado-service", "0.1.0"), ("tornado", "6.6.1")} <= names
    assert {(part["name"], part["version"]) for part in sbom["components"]} == names


def test_size_of_the_image(engine: Engine, image: str) -> None:
    size, base = (
        int(engine.podman("image", "inspect", "--format", "{{.Size}}", one).stdout)
        for one in (image, BASE)
    )
    print(f"MB on top of the base image: {(size - base) / 1e6:.0f}")
    assert size - base < 60e6


def test_image_says_who_it_is(engine: Engine, image: str) -> None:
    config: dict[str, Any] = yaml.safe_load(engine.podman("image", "inspect", image).stdout)[0]
    assert config["Config"]["User"] == f"{USER}:{USER}"
    assert config["Config"]["StopSignal"] == "SIGTERM"
    assert config["Config"]["Entrypoint"] == ["tornado-service"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-IS", "healthcheck.py"]


def test_image_has_the_revision_of_the_code(start: Start, engine: Engine, image: str) -> None:
    labels = engine.podman("image", "inspect", "--format", "{{json .Labels}}", image).stdout
    assert json.loads(labels)["org.opencontainers.image.revision"] == TAG
    container = start(image, APP_WORKERS=2)
    assert f" 0.1.0 ({TAG}; " in container.execute("tornado-service", "--version").stdout
    assert container.ask("/version", container.admin_port).json["revision"] == TAG
    assert f'"message":"starting tornado-service 0.1.0, revision {TAG}"' in container.logs()


def test_image_has_the_settings_of_production(engine: Engine, image: str, project: Path) -> None:
    wanted = (project / "deploy/production.env").read_text().splitlines()
    shown = engine.podman("run", "--rm", *LIMITS, "--network=host", image, "check").stdout
    assert {line for line in wanted if line.startswith("APP_")} <= set(shown.splitlines())


# What it does


def test_service_answers_without_any_privilege(start: Start, image: str) -> None:
    container = start(image)
    assert container.ask("/greetings/Ada").json == {"message": "Hello, Ada!"}
    status = Path(f"/proc/{container.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split() == fields["Gid"].split() == [USER] * 4
    assert {fields[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    for place in ("/new", "/app/new", "/usr/new", "/venv/new"):
        assert "Read-only file system" in container.execute("touch", place).stderr
    assert container.execute("touch", "/tmp/new").returncode == 0


def test_health_is_what_the_service_says(start: Start, engine: Engine, image: str) -> None:
    container = start(image)
    assert engine.podman("healthcheck", "run", container.name, check=False).returncode == 0
    # Nobody listens where these ask.
    port = free_port()
    for command in ["tornado-service", "healthcheck"], ["python", "-IS", "healthcheck.py"]:
        done = container.execute("env", f"APP_ADMIN_PORT={port}", *command)
        assert done.returncode == 1
        assert f":{port}: " in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_answers_what_is_in_flight(start: Start, image: str, workers: int) -> None:
    container = start(image, APP_WORKERS=workers)
    head, body = (
        request("/greetings", "POST", b'{"name":"Ada"}', Content_Type="application/json"),
        8,
    )
    with socket.create_connection(("127.0.0.1", container.port), timeout=60) as connection:
        connection.sendall(head[:-body])
        # Once another one is answered, this one is in the hands of a worker.
        assert container.ask("/greetings/Ada").status == 200
        stop = [*container.engine.command("podman"), *container.engine.runtime, "stop"]
        with subprocess.Popen([*stop, container.name]) as stopping:
            until(lambda: not is_open(container.port), "no more connections")
            assert stopping.poll() is None
            connection.sendall(head[-body:])
            answer = parse(read_to_end(connection))
            assert stopping.wait(60) == 0
    assert answer.json == {"message": "Hello, Ada!"}
    assert answer.headers["connection"] == "close"
    assert container.inspect("{{.State.ExitCode}}") == "0"
    assert '"message":"stopped"' in container.logs().splitlines()[-1]


def test_what_others_leave_behind_is_reaped(start: Start, image: str) -> None:
    # By the supervisor. One process alone does not reap, so compose.yaml has an init for it.
    container = start(image, APP_WORKERS=2)
    pid = container.pid
    before = set(children(pid))
    assert container.execute("sh", "-c", "sleep 5 &").returncode == 0
    until(lambda: set(children(pid)) > before, "a child of somebody else")
    until(lambda: set(children(pid)) == before, "its end")


def test_log_is_written_to_a_volume(
    start: Start, engine: Engine, bake: Callable[..., Path]
) -> None:
    image = engine.build(bake(deploy="docker", logging="file"), f"{IMAGE}:file")
    folder = "/var/log/tornado-service"
    container = start(image, f"--volume=logs:{folder}")
    shown = container.execute("cat", f"{folder}/tornado-service.log").stdout
    assert '"listening on ' in shown
    assert container.logs() == ""
    assert container.execute("stat", "--format=%u:%g %a", folder).stdout == f"{USER}:{USER} 750\n"
