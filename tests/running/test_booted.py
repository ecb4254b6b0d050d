"""The units on a server that systemd has booted: installed and operated as their README says.

The server is a container with a Debian of its own and without a network. What a test cannot have is
replaced: the repository, the package index, and the limit of requests that Nginx grants to one
client.
"""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..bakes import TEMPLATE
from ..commands import commands
from ..tools import AS_ROOT, needs
from .harness import PATIENCE, children, until

SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = ["systemd-sysv", "dbus", "procps", "curl", "git", "logrotate", "nginx", "python3-venv"]

SLUG = "tornado-service"
SHOW = "systemctl show --value --property"

LOAD = """
import json, sys
from tests.running.harness import until
from tests.running.load import Load

with Load(int(sys.argv[1]), ["/greetings/Ada"], pause=0.02) as load:
    until(lambda: load.answered > 100, "answers")
    print(flush=True)
    sys.stdin.read()
    before = load.answered
    until(lambda: load.answered > before + 100, "answers")
print(json.dumps([load.answered, load.kinds(), load.slowest]))
"""
"""Asks until its standard input is closed; says when it has begun, and what came of it."""


@dataclass
class Outcome:
    """What came of the requests of a load."""

    answered: int
    failed: dict[str, int]
    slowest: float


@dataclass
class Server:
    """A container that systemd has booted."""

    leader: int
    folder: str = "/"

    def run(self, command: str, check: bool = True) -> str:
        """Run a command as root and return what it prints."""
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        inside |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels", "PYTHONWARNINGS": "ignore"}
        environment = ["env", "-i", "-C", self.folder, *(f"{k}={v}" for k, v in inside.items())]
        shell = ["bash", "-c", f"umask 022; {command}"]
        done = subprocess.run(
            [*self._enter("--all"), *environment, *shell],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=3 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0 or not check, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def follow(
        self, readme: Path, section: str, *, replaced: tuple[str, str] = ("", ""), folder: str = "/"
    ) -> None:
        """Run the commands of a section of a README, which print what it says."""
        self.folder = folder
        for command in commands(readme, section):
            line = command.line.replace("sudo ", "").replace(*replaced)
            line = line.replace("apt install", "dpkg --status")
            line = line.replace(f"https://git.example.com/{SLUG}.git", "/root/origin")
            if line.startswith("cd "):
                self.folder = line.removeprefix("cd ")
            elif command.output:
                until(
                    lambda line=line, wanted=command.output: self.run(line, False) == wanted,
                    f"{command.output!r} of {line!r}",
                )
            else:
                self.run(line)
        self.folder = "/"

    def commit(self, *commands: str) -> None:
        """Change the repository that the server pulls from."""
        who = "git -c user.name=Ada -c user.email=ada@example.com"
        self.run("; ".join(["cd /root/origin", *commands, f"git add . && {who} commit -qm change"]))

    def property(self, name: str) -> str:
        """Ask systemd about the service."""
        return self.run(f"{SHOW} {name} {SLUG}.service")

    def main(self) -> int:
        return int(self.property("MainPID"))

    def log(self, pattern: str) -> list[dict[str, Any]]:
        """Return the records of the service that match."""
        read = f"journalctl --unit {SLUG} --output cat | grep --extended-regexp '{pattern}'"
        lines = self.run(read, check=False).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def workers(self) -> dict[int, int]:
        """Tell the pids of the workers that the supervisor found ready last, by slot."""
        main = self.main()
        messages = [
            one["message"] for one in self.log(r"worker [0-9].* ready") if one["pid"] == main
        ]
        found = [re.fullmatch(r"worker (\d+), pid (\d+): ready", message) for message in messages]
        return {int(one[1]): int(one[2]) for one in found if one}

    def status(self) -> dict[str, Any]:
        """Ask the service itself."""
        status: dict[str, Any] = json.loads(
            self.run(f"/opt/{SLUG}/.venv/bin/{SLUG} status --json", check=False)
        )
        return status

    def four_workers(self) -> set[int]:
        until(lambda: len(self.workers()) == 4, "four workers")
        return set(self.workers().values())

    def refused_by_nginx(self) -> list[str]:
        """List the lines of Nginx's log that tell of anything but success."""
        log = f"/var/log/nginx/{SLUG}.access.log"
        # That grep finds none is no error of ours.
        return self.run(f"grep -v status_code.:200, {log} || [ $? -eq 1 ]").splitlines()

    def wait_until_ready(self) -> None:
        ready = "curl --silent --fail http://127.0.0.1:9000/readyz"
        until(lambda: self.run(ready, check=False) == '{"ready":true}', "ready")

    def under_load(self, action: Callable[[], object], *ports: int) -> list[Outcome]:
        """Do something while the service is asked on some ports, and tell what came of that."""
        command = [*self._enter("--net"), sys.executable, "-c", LOAD]
        with contextlib.ExitStack() as stack:
            asking = [
                stack.enter_context(
                    subprocess.Popen(
                        [*command, str(port)],
                        cwd=TEMPLATE,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
                for port in ports
            ]
            try:
                for one in asking:
                    assert one.stdout
                    assert one.stdout.readline() == "\n"
                action()
            finally:
                ends = [one.communicate(timeout=3 * PATIENCE)[0] for one in asking]
        return [Outcome(*json.loads(end)) for end in ends]

    def _enter(self, *namespaces: str) -> list[str]:
        return [*AS_ROOT, needs("nsenter"), f"--target={self.leader}", *namespaces]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian in a folder, which nobody writes to."""
    needs("systemd-nspawn")
    folder = tmp_path_factory.mktemp("debian") / "tree"
    make = [needs("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    subprocess.run([*AS_ROOT, *make, SUITE, str(folder)], check=True, timeout=15 * PATIENCE)
    yield folder
    subprocess.run([*AS_ROOT, "rm", "-rf", "--one-file-system", str(folder)], check=True)


@pytest.fixture(scope="module")
def wheels(bake: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages that pip needs to install a project, for the Python of that Debian."""
    project, folder = bake(), tmp_path_factory.mktemp("pip")
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=folder, check=True)
    fetch = ["venv/bin/pip", "download", "--quiet", "--dest=wheels", "--only-binary=:all:"]
    fetch += [f"--python-version={PYTHON}", f"--constraint={project / 'constraints.txt'}"]
    wanted = [*data["project"]["dependencies"], *data["build-system"]["requires"]]
    subprocess.run([*fetch, *wanted], cwd=folder, check=True, timeout=5 * PATIENCE)
    return folder / "wheels"


@contextlib.contextmanager
def booted(tree: Path, wheels: Path, project: Path, folder: Path) -> Iterator[Server]:
    """Boot a server that can clone a project, and switch it off at the end."""
    name = f"test-{os.getpid()}-{folder.name}".replace("_", "-")[:60]
    command = [needs("systemd-nspawn"), "--quiet", f"--directory={tree}", f"--machine={name}"]
    # Whatever it writes is gone with it. The loopback network is its own as well.
    command += ["--boot", "--volatile=overlay", "--private-network", "--register=no"]
    command += ["--link-journal=no", "--resolv-conf=off", "--timezone=off"]
    command += [f"--bind-ro={wheels}:/srv/wheels", f"--bind-ro={project}:/srv/project"]
    if not Path("/run/systemd/system").is_dir():
        # There is no systemd out here that could be asked for a control group.
        command += ["--keep-unit"]
    with (folder / "console").open("wb") as console:
        process = subprocess.Popen(
            [*AS_ROOT, *command],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    leader = 0
    try:
        leader = until(lambda: first_inside(process), "the first process of the container")
        server = Server(leader)
        up = "systemctl is-system-running --wait"
        until(lambda: server.run(up, check=False) in ("running", "degraded"), "a server that is up")
        server.run("cp -r /srv/project /root/origin; git init -qb main /root/origin")
        server.commit()
        yield server
    except BaseException:
        print((folder / "console").read_text(errors="replace")[-2000:])
        raise
    finally:
        # With it go all processes inside.
        if leader:
            subprocess.run([*AS_ROOT, "kill", "-KILL", str(leader)], check=False)
        else:
            process.kill()
        process.wait(PATIENCE)


def first_inside(process: "subprocess.Popen[bytes]") -> int:
    """Find the process that is the first one in a container, below the one that made it."""
    assert process.poll() is None, "no container: see its console"
    pids = [process.pid]
    for pid in pids:
        with contextlib.suppress(OSError):
            # Its number out here and its number in there.
            numbers = re.findall(r"^NSpid:\t(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M)
            if numbers == [f"{pid}\t1"]:
                return pid
            pids += children(pid)
    return 0


def readme_of(project: Path) -> Path:
    return project / "deploy/systemd/README.md"


@pytest.fixture(scope="module")
def project(bake_into: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default project with its units."""
    return bake_into(tmp_path_factory.mktemp("units"), deploy="systemd")


@pytest.fixture(scope="module")
def booted_server(
    tree: Path, wheels: Path, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("booted")
    with booted(tree, wheels, project, folder) as server:
        server.follow(readme_of(project), "Install")
        server.run("sed --in-place 's/rate=100r/rate=100000r/' /etc/nginx/conf.d/*.conf")
        server.run("systemctl reload nginx")
        yield server


@pytest.fixture
def server(booted_server: Server) -> Iterator[Server]:
    """A server on which the service is ready, with the settings of production."""
    booted_server.run(f"truncate --size=0 /etc/{SLUG}.env")
    booted_server.run(f"systemctl reset-failed {SLUG}.service {SLUG}.socket", check=False)
    booted_server.run(f"systemctl restart {SLUG}.socket {SLUG}.service")
    booted_server.wait_until_ready()
    yield booted_server
    print(
        booted_server.run(f"journalctl --unit {SLUG} --unit {SLUG}.socket -n 30 -o short-precise")
    )


def assert_all_answered(outcomes: list[Outcome]) -> None:
    print(outcomes)
    assert [outcome.failed for outcome in outcomes] == [{}] * len(outcomes)
    assert all(outcome.answered > 200 for outcome in outcomes)


def test_the_service_is_as_safe_as_its_unit_says(server: Server) -> None:
    [score] = [
        line.split(": ")[1].split()[0]
        for line in server.run(f"systemd-analyze security --no-pager {SLUG}").splitlines()
        if "Overall exposure level" in line
    ]
    assert float(score) <= 2.0
    server.four_workers()
    pids = server.run(f"pgrep --full /opt/{SLUG}/.venv/bin/{SLUG}").split()
    assert len(pids) == 6
    for pid in pids:
        lines = server.run(f"cat /proc/{pid}/status").splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert "0" not in status["Uid"].split()
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_the_unit_hides_nothing_that_is_measured(server: Server) -> None:
    server.four_workers()
    page = server.run("curl --silent http://127.0.0.1:9000/metrics")
    workers = dict.fromkeys(map(str, range(4)), 1)
    for name in ("cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds"):
        assert Counter(re.findall(rf'^process_{name}{{worker="(\d)"}} ', page, re.M)) == workers


def test_systemd_hands_each_worker_a_socket_of_its_own(server: Server) -> None:
    rounds = itertools.count()

    def answering() -> dict[int, int]:
        """Tell which worker answers on which port, by what the log says."""
        number = next(rounds)
        for port in range(8000, 8004):
            ask = f"curl --silent --header 'X-Request-ID: round-{number}-{port}'"
            server.run(f"{ask} http://127.0.0.1:{port}/")

        def logged() -> list[dict[str, Any]]:
            records = server.log(f'"round-{number}-')
            return records if len(records) == 4 else []

        # Lines are collected for a moment before they are written.
        records = until(logged, "a line of each request")
        return {int(record["request_id"][-4:]): record["worker"] for record in records}

    # Until all are there, the first accepts for the others.
    until(lambda: answering() == {8000: 0, 8001: 1, 8002: 2, 8003: 3}, "each on its own port")


def test_a_reload_fails_no_request(server: Server) -> None:
    main = server.main()

    def reload() -> None:
        for _ in range(3):
            before = server.four_workers()
            server.run(f"systemctl reload {SLUG}")
            # It returns when all is over.
            assert server.property("StatusText") == "reloaded"
            assert not before & {worker["pid"] for worker in server.status()["workers"]}

    assert_all_answered(server.under_load(reload, 80, 8000, 8003))
    assert server.refused_by_nginx() == []
    assert server.main() == main


def test_a_restart_fails_no_request(server: Server) -> None:
    mains = [server.main()]

    def restart() -> None:
        for _ in range(3):
            server.run(f"systemctl restart {SLUG}")
            server.four_workers()
            mains.append(server.main())

    assert_all_answered(server.under_load(restart, 80, 8000, 8003))
    assert server.refused_by_nginx() == []
    assert len(set(mains)) == 4


def test_an_update_fails_no_request_and_can_be_taken_back(server: Server, project: Path) -> None:
    model = f"src/{SLUG.replace('-', '_')}/greetings/model.py"

    def greeting() -> str:
        return str(
            json.loads(server.run("curl --silent http://localhost/greetings/Ada"))["message"]
        )

    def new() -> None:
        server.follow(readme_of(project), "Update")
        until(lambda: greeting() == "Howdy, Ada!", "new code")
        until(lambda: server.property("StatusText") == "reloaded", "the end of the update")

    def old() -> None:
        back = ("git checkout VERSION", "git checkout --quiet HEAD~1")
        server.follow(readme_of(project), "Rollback", replaced=back)
        until(lambda: greeting() == "Hello, Ada!", "old code")
        until(lambda: server.property("StatusText") == "reloaded", "the end of the way back")

    def described() -> str:
        return server.run(f"git -C /opt/{SLUG} describe --always --dirty --tags --abbrev=12")

    def runs_what_git_describes() -> bool:
        """Return whether all workers run the commit that is checked out."""
        shown = json.loads(server.run("curl --silent http://127.0.0.1:9000/version"))
        revisions = {worker["revision"] for worker in shown["workers"]}
        return revisions == {shown["revision"]} == {described()}

    assert greeting() == "Hello, Ada!"
    assert runs_what_git_describes()
    before = described()
    server.commit(f"sed --in-place s/Hello/Howdy/ {model}")
    assert_all_answered(server.under_load(new, 80))
    assert before != described()
    assert runs_what_git_describes()
    assert_all_answered(server.under_load(old, 80))
    assert before == described()
    assert runs_what_git_describes()
    assert server.refused_by_nginx() == []
    server.run(f"git -C /opt/{SLUG} switch --quiet main")


def test_tls_is_enabled(server: Server, project: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    subprocess.run(
        [needs("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj=/CN=localhost",
         "-addext=subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    for file in (certificate, key):
        server.run(f"echo '{file.read_text()}' > /opt/{SLUG}/{file.name}")
    ask = f"curl --silent --cacert /opt/{SLUG}/fullchain.pem https://localhost/greetings/Ada"
    try:
        server.follow(project / "deploy/nginx/README.md", "TLS", folder=f"/opt/{SLUG}")
        until(lambda: server.run(ask, check=False) == '{"message":"Hello, Ada!"}', "TLS")
    finally:
        server.run(f"rm -r /etc/nginx/{SLUG}.d /opt/{SLUG}/*.pem; systemctl reload nginx")
    until(lambda: server.run(ask, check=False) == "", "no TLS")


def test_code_that_does_not_start_is_not_reloaded(server: Server) -> None:
    before = server.four_workers()
    app = f"/opt/{SLUG}/.venv/lib/python{PYTHON}/site-packages/{SLUG.replace('-', '_')}/app.py"
    server.run(f"cp {app} /root/good; echo 1/0 >> {app}")
    try:
        failed = server.run(f"systemctl reload {SLUG} 2>&1 || echo failed", check=False)
    finally:
        server.run(f"cp /root/good {app}")
    assert failed.splitlines()[-1] == "failed"
    assert server.property("StatusText") == "reload failed"
    assert server.property("ActiveState") == "active"
    assert server.four_workers() == before
    message = server.log("reload failed")[-1]["message"]
    assert "ZeroDivisionError" in message
    # What the command has printed.
    lines = server.run(f"journalctl --unit {SLUG} --output cat --lines 50").splitlines()
    assert message in lines
    server.run(f"systemctl reload {SLUG}")
    assert not before & server.four_workers()


def test_commands_of_root_reach_the_service(server: Server) -> None:
    assert server.run(f"stat --format %a /run/{SLUG} /run/{SLUG}/control.sock") == "700\n600"
    before = server.main()
    status = server.status()
    assert status["ready"]
    assert status["pid"] == before
    # Every other user is kept out.
    command = f"/opt/{SLUG}/.venv/bin/{SLUG}"
    refused = server.run(f"setpriv --reuid 65534 --clear-groups {command} status 2>&1", False)
    assert "ermission denied" in refused
    stopped = server.run(f"{command} stop 2>&1").splitlines()
    assert stopped[-1] == "stopped"
    assert any("systemd may start the service again" in line for line in stopped)
    until(lambda: server.main() not in (0, before), "that systemd starts it again")


def test_a_supervisor_that_is_killed_is_started_again(server: Server) -> None:
    before = server.main()
    server.run(f"kill -KILL {before}")
    until(lambda: server.main() != before, "the end of the supervisor")
    # Whoever asks meanwhile waits for the next one.
    server.run("curl --silent --fail http://127.0.0.1:8000/")
    assert server.main() not in (0, before)
    assert server.property("NRestarts") == "1"


def test_a_worker_that_hangs_is_replaced(server: Server, project: Path) -> None:
    server.run(f"echo APP_HANG_TIMEOUT=2 > /etc/{SLUG}.env")
    server.follow(readme_of(project), "Settings")
    server.four_workers()
    main, before = server.main(), server.workers()
    server.run(f"kill -STOP {before[0]}")
    until(lambda: server.workers()[0] != before[0], "another worker")
    assert server.log("its event loop was blocked")
    assert server.main() == main
    assert {**server.workers(), 0: before[0]} == before


def test_a_supervisor_that_stands_still_is_started_again(server: Server) -> None:
    # The unit leaves it half a minute.
    sooner = f"/run/systemd/system/{SLUG}.service.d"
    unit = "printf '[Service]\\nWatchdogSec=5\\n'"
    server.run(f"mkdir {sooner} && {unit} > {sooner}/sooner.conf && systemctl daemon-reload")
    server.run(f"systemctl restart {SLUG}")
    server.wait_until_ready()
    try:
        before = server.main()
        server.run(f"kill -STOP {before}")
        until(lambda: server.main() not in (0, before), "another supervisor", 2 * PATIENCE)
        assert "Watchdog timeout" in server.run(f"journalctl --unit {SLUG} --output cat")
        server.wait_until_ready()
    finally:
        server.run(f"rm -r {sooner} && systemctl daemon-reload")


def test_stopped_is_what_the_readme_stops(server: Server, project: Path) -> None:
    ask = "curl --silent --fail http://127.0.0.1:8001/greetings/Ada"
    ready = "curl --silent --fail http://127.0.0.1:9000/readyz"
    server.run(f"systemctl stop {SLUG}.service")
    assert server.run(ready, check=False) == ""
    assert server.property("ActiveState") == "inactive"
    server.run(ask)
    assert server.property("ActiveState") == "active"
    server.follow(readme_of(project), "Operate")
    assert server.run(ask, check=False) == ""
    assert server.property("ActiveState") == "inactive"


def test_bad_settings_stop_it_until_they_are_mended(server: Server, project: Path) -> None:
    def attempts() -> int:
        count = f"journalctl --unit {SLUG} --output cat | grep --count '^Bad settings:'"
        return int(server.run(count, check=False))

    server.run(f"echo APP_DRAIN_TIMEOUT=long > /etc/{SLUG}.env")
    with pytest.raises(AssertionError, match="Bad settings"):
        server.follow(readme_of(project), "Settings")
    server.folder = "/"
    assert server.property("ActiveState") == "active"
    server.run(f"systemctl restart {SLUG}", check=False)
    assert server.property("ExecMainStatus") == "78"
    time.sleep(3)
    assert server.property("NRestarts") == "0"
    assert server.property("ActiveState") == "failed"
    # Clients wake it, but not for ever. systemd counts to ten within ten seconds and then anew: the
    # end of one such span and the beginning of the next may come together.
    before = attempts()
    ask = "curl --silent --max-time 60 http://127.0.0.1:8000/"
    server.run(ask, check=False)
    result = f"{SHOW} Result {SLUG}.socket"
    until(lambda: server.run(result) == "service-start-limit-hit", "the end of it")
    assert 0 < attempts() - before <= 20
    server.run(f"truncate --size=0 /etc/{SLUG}.env")
    server.follow(readme_of(project), "Troubleshooting")
    server.run(ask)


def test_files_that_the_service_cannot_read(server: Server) -> None:
    server.run(f"chmod -R go-rX /opt/{SLUG}; systemctl restart {SLUG}", check=False)
    until(lambda: server.property("ExecMainStatus") in ("200", "203"), "CHDIR or EXEC")
    server.run(f"chmod -R go+rX /opt/{SLUG}")
    server.wait_until_ready()


def test_what_may_pass_is_tried_again_and_again(server: Server) -> None:
    server.run(f"systemctl stop {SLUG}.socket {SLUG}.service")
    squat = "python3 -m http.server --bind 127.0.0.1 9000"
    server.run(f"systemd-run --quiet --unit squatter {squat}")
    until(lambda: server.run("curl --silent --fail http://127.0.0.1:9000/", False), "a squatter")
    server.run(f"systemctl start --no-block {SLUG}.socket {SLUG}.service")
    # More often than the limit for starts that others ask for.
    until(lambda: int(server.property("NRestarts")) > 10, "many attempts")
    why = "cannot listen on 127.0.0.1 port 9000: Address already in use"
    assert why in server.run(f"journalctl --unit {SLUG} --output cat --lines 50")
    server.run("systemctl stop squatter")
    server.wait_until_ready()


def test_one_process_with_a_log_file(
    tree: Path, wheels: Path, bake_into: Callable[..., Path], tmp_path: Path
) -> None:
    answers = {"deploy": "systemd", "processes": "single", "nginx": False, "logging": "file"}
    project = bake_into(tmp_path, **answers)
    log = f"/var/log/{SLUG}/{SLUG}.log"

    def restart() -> None:
        for _ in range(3):
            server.run(f"systemctl restart {SLUG}")

    def rotate() -> None:
        for _ in range(3):
            until(lambda: server.run(f"test -s {log} && echo there", False), "lines in a new file")
            server.run(f"logrotate --force /etc/logrotate.d/{SLUG}")

    def lines() -> int:
        return int(server.run(f"zcat --force {log}* | grep --count GET./greetings/Ada.200"))

    with booted(tree, wheels, project, tmp_path) as server:
        server.follow(readme_of(project), "Install")
        logrotate = project / "deploy/logrotate/README.md"
        server.follow(logrotate, "Install", folder=f"/opt/{SLUG}")
        restarted = server.under_load(restart, 8000)
        rotated = server.under_load(rotate, 8000)
        assert_all_answered([*restarted, *rotated])
        answered = sum(outcome.answered for outcome in [*restarted, *rotated])
        until(lambda: lines() >= answered, "every line in the log")
        assert lines() == answered
        assert len(server.run(f"ls {log}*").splitlines()) == 4
        assert "root" not in server.run(f"stat --format '%U %u' {log} /var/log/private/{SLUG}")
        assert server.run("stat --format %a /var/log/private") == "700"
        assert server.run(f"systemctl reload {SLUG} 2>&1", check=False)
        assert server.property("ActiveState") == "active"
        with pytest.raises(AssertionError):
            server.run(f"systemctl reload {SLUG}")
        server.follow(readme_of(project), "Operate")
        assert server.property("ActiveState") == "inactive"
