"""systemd's own tools have nothing to say against the units, and would if there was a reason."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime.process.sockets import BACKLOG

from .bakes import ALL_ON, BAKES, Answers
from .commands import commands
from .tools import needs

UNITS = {name: answers for name, answers in BAKES.items() if answers.get("deploy") == "systemd"}
UNITS |= {name: {**BAKES[name], "deploy": "systemd"} for name in ("longest", "shortest")}
UNITS["one worker"] = {"deploy": "systemd", "workers": "1"}
WORST = 2.0


def units(project: Path) -> list[Path]:
    """List the units of a project."""
    return sorted((project / "deploy/systemd").glob("*.s*"))


@pytest.fixture(params=UNITS)
def project(request: pytest.FixtureRequest, bake: Callable[..., Path]) -> Path:
    """A project with units."""
    return bake(**UNITS[request.param])


def installed(project: Path, folder: Path, old: str = "", new: str = "") -> list[str]:
    """Write the units to a folder as if the project was there, with a change in the service."""
    home = folder / "opt"
    command = home / ".venv/bin" / project.name
    command.parent.mkdir(parents=True)
    command.touch(0o755)
    names = []
    for unit in units(project):
        text = unit.read_text("utf-8")
        if unit.suffix == ".service":
            assert old in text
            text = text.replace(old, new)
        assert unit.suffix == ".socket" or f"/opt/{project.name}/" in text
        copy = folder / unit.name
        copy.write_text(text.replace(f"/opt/{project.name}", str(home)), "utf-8")
        names.append(str(copy))
    return names


def complaints(names: list[str]) -> str:
    """Let systemd read units. What it writes counts, for it may complain and still succeed."""
    command = [needs("systemd-analyze"), "verify", "--man=no", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or done.stderr
    return done.stderr


def exposure(service: str) -> float:
    """Tell how much a service may do, from 0 to 10."""
    command = [needs("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    command += [f"--threshold={WORST * 10:.0f}", service]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    [score] = re.findall(r"Overall exposure level for .*: ([0-9.]+) ", done.stdout)
    assert (done.returncode == 0) == (float(score) <= WORST), done.stdout + done.stderr
    return float(score)


def test_systemd_understands_the_units(project: Path, tmp_path: Path) -> None:
    assert complaints(installed(project, tmp_path)) == ""


def test_the_service_may_do_little(project: Path, tmp_path: Path) -> None:
    service, _ = installed(project, tmp_path)
    score = exposure(service)
    print(f"exposure of {project.name}: {score}")
    assert score <= WORST


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("WatchdogSec=", "WatchDogSec=", "Unknown key"),
        ("WatchdogSec=30", "WatchdogSec=soon", "Failed to parse"),
        ("ProtectHome=yes", "ProtectHome=indeed", "Failed to parse"),
        ("/.venv/bin/", "/.venv/", "is not executable"),
    ],
)
def test_systemd_would_complain(
    bake: Callable[..., Path], tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    project = bake(deploy="systemd")
    assert complaint in complaints(installed(project, tmp_path, old, new))


def test_a_service_that_may_do_more_is_noticed(bake: Callable[..., Path], tmp_path: Path) -> None:
    project = bake(deploy="systemd")
    text = (project / f"deploy/systemd/{project.name}.service").read_text("utf-8")
    hardening = text[text.index("ProtectSystem=") : text.index("[Install]")]
    service, _ = installed(project, tmp_path, hardening)
    assert exposure(service) > WORST


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        ({"workers": "1"}, 1),
        ({"workers": "2"}, 2),
        ({"workers": "64"}, 64),
        ({"workers": "64", "nginx": False}, 1),
        ({"processes": "single"}, 1),
    ],
)
def test_each_worker_that_nginx_knows_has_a_socket(
    bake: Callable[..., Path], answers: Answers, count: int
) -> None:
    _, socket = units(bake(**{**ALL_ON, "nginx": True, "deploy": "systemd", **answers}))
    found = re.findall(r"^ListenStream=(.*)$", socket.read_text("utf-8"), re.MULTILINE)
    assert found == [f"127.0.0.1:{8000 + place}" for place in range(count)]


def test_the_accept_queue_is_as_long_as_without_systemd(project: Path) -> None:
    _, socket = units(project)
    backlog = str(BACKLOG)
    assert f"\nBacklog={backlog}\n" in socket.read_text("utf-8")


def test_the_journal_drops_no_lines_of_the_service(project: Path) -> None:
    service, _ = units(project)
    text = service.read_text("utf-8")
    assert ("\nLogRateLimitIntervalSec=0\n" in text) != ("\nLogsDirectory=" in text)


def test_the_readme_installs_everything(project: Path) -> None:
    found = commands(project / "deploy/systemd/README.md")
    lines = [command.line.removeprefix("sudo ") for command in found]
    installed = {line.split()[3] for line in lines if line.startswith("install -m 0644 ")}
    names = [f"systemd/{unit.name}" for unit in units(project)]
    names += [f"nginx/{project.name}.conf", f"logrotate/{project.name}"]
    there = {f"deploy/{name}" for name in names if (project / "deploy" / name).exists()}
    assert installed == there
    # It may hold secrets.
    assert f"install -m 0600 /dev/null /etc/{project.name}.env" in lines
    service, _ = units(project)
    text = service.read_text("utf-8")
    assert f"\nEnvironmentFile=-/etc/{project.name}.env\n" in text
    assert ("\nExecReload=" in text) == (f"systemctl reload {project.name}" in lines)


def test_a_reload_never_ends_a_service(project: Path) -> None:
    service, _ = units(project)
    text = service.read_text("utf-8")
    # A single process, as with APP_WORKERS=auto on one CPU, stops at SIGHUP.
    [command] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert re.findall(r"^ExecReload=(.*)$", text, re.MULTILINE) in ([], [f"{command} reload"])
    assert ("\nExecReload=" in text) == ("\nRestart=always\n" in text)


def test_the_readme_warns_of_mixed_code(project: Path) -> None:
    # A worker that dies before the reload is started with what is on disk.
    readme = (project / "deploy/systemd/README.md").read_text("utf-8")
    update = readme.partition("\n## Update\n")[2].partition("\n## ")[0]
    assert ("replaced by one with the new code" in update) == ("systemctl reload" in update)


@pytest.mark.parametrize("deploy", ["docker", "kubernetes", "none"])
def test_no_units_where_nobody_wants_them(bake: Callable[..., Path], deploy: str) -> None:
    answers: Answers = {"deploy": deploy}
    assert units(bake(**answers)) == []
    assert not (bake(**answers) / "tests/deploy/test_systemd.py").exists()
