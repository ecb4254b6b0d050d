"""Puts a real Nginx in front of the real service, both as a baked project deploys them.

Only ports and places of files are replaced, and what a test names.
"""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..ports import free_ports
from ..tools import needs
from .harness import (
    FAULTS,
    PATIENCE,
    Answer,
    Service,
    Starter,
    children,
    is_open,
    parse,
    read_to_end,
    starter,
    until,
)
from .hostile import head

SLUG = "tornado-service"

# What a distribution has around the configuration of a site.
MAIN = """\
{user}
daemon off;
pid nginx.pid;
error_log main.log notice;
worker_processes 2;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include {slug}.conf;
}}
"""

UNLIMITED = {"rate=100r/s": "rate=100000r/s", "_connections 100;": "_connections 60000;"}
"""For tests in which one address stands for many."""

MORE = '''
import json
from pathlib import Path

from tornado_service.runtime import EventStream, Problem

_make_app = make_app


class Told(Handler):
    """Answers what the service believes of a request."""

    def get(self) -> None:
        request = self.request
        self.reply(
            {
                "remote_ip": request.remote_ip,
                "protocol": request.protocol,
                "host": request.host,
                "peer": request.connection.context.address[1],
                "uri": request.uri,
                "headers": list(request.headers.get_all()),
            }
        )


class Once(Handler):
    """Notes in a file that it has run, and answers a little later."""

    async def post(self, name: str) -> None:
        with open("executed", "a") as file:
            file.write(name + "\\n")
        await asyncio.sleep(0.02)
        self.reply({"pid": os.getpid()})


class Size(Handler):
    """Answers how large the body was."""

    def post(self) -> None:
        self.reply({"size": len(self.request.body)})


class Refuse(Handler):
    """Raises a problem with everything that one can have."""

    def get(self, status: str) -> None:
        errors = [{"pointer": "/name", "detail": "too odd"}]
        raise Problem(int(status), "The service says so.", errors=errors)


class Greet(EventStream):
    """Sends one event, and stays open."""

    async def stream(self) -> None:
        await self.send("hello")
        await asyncio.Event().wait()


def make_app(values):
    application = _make_app(values)
    routes = {
        "/told": Told,
        "/once/{name}": Once,
        "/size": Size,
        "/refuse/{status}": Refuse,
        "/greet": Greet,
    }
    application.wildcard_router.add_rules(
        [Route(template, handler) for template, handler in routes.items()]
    )
    return application
'''
"""Routes that show what arrives behind Nginx, for the end of a copy of `faults.py`."""


def production(project: Path) -> dict[str, str]:
    """Read the settings that a project is deployed with."""
    lines = (project / "deploy/production.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def replace(text: str, changes: Mapping[str, str]) -> str:
    """Replace parts of a text, all of which are there."""
    for old, new in changes.items():
        assert old in text, f"no {old!r} to be replaced"
        text = text.replace(old, new)
    return text


def main(slug: str) -> str:
    """Write what stands around the configuration of a site."""
    return MAIN.format(user="user root;" if os.geteuid() == 0 else "", slug=slug).lstrip()


@dataclass
class Front:
    """A service, and the Nginx in front of it."""

    project: Path
    folder: Path
    service: Service
    port: int
    tls_port: int
    starter: Starter
    client: ssl.SSLContext | None = None
    """Trusts the certificate, if there is one."""
    certificate: Path = field(init=False, repr=False)
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    def configure(self, changes: Mapping[str, str], *, tls: bool = False) -> None:
        """Write the configuration of the project with what cannot be here as it is there."""
        given = production(self.project)
        first, servers = int(given["APP_PORT"]), int(given.get("APP_WORKERS", 1))
        files = self.project / "deploy/nginx"
        text = (files / f"{SLUG}.conf").read_text()
        upstream = r"(server 127\.0\.0\.1):(\d+)\b"
        assert len(re.findall(upstream, text)) == servers
        text = re.sub(upstream, lambda m: f"{m[1]}:{self.service.port + int(m[2]) - first}", text)
        places = {
            "listen 80;": f"listen {self.port};",
            "listen [::]:80;": f"listen [::]:{self.port};",
            "/var/log/nginx/": f"{self.folder}/",
        }
        (self.folder / f"{SLUG}.conf").write_text(replace(text, {**places, **changes}))
        (self.folder / "nginx.conf").write_text(main(SLUG))
        if tls:
            self._enable_tls((files / "tls.conf").read_text())

    def _enable_tls(self, text: str) -> None:
        enabled = self.folder / f"{SLUG}.d"
        enabled.mkdir()
        certificate, key = enabled / "fullchain.pem", enabled / "privkey.pem"
        names = "subjectAltName=DNS:localhost,DNS:other.example,IP:127.0.0.1"
        subprocess.run(
            [needs("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", names, "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )  # fmt: skip
        places = {
            "listen 443 ssl http2;": f"listen {self.tls_port} ssl http2;",
            "listen [::]:443 ssl http2;": f"listen [::]:{self.tls_port} ssl http2;",
            f"/etc/nginx/{SLUG}.d/": f"{enabled}/",
        }
        (enabled / "tls.conf").write_text(replace(text, places))
        self.certificate = certificate
        self.client = ssl.create_default_context(cafile=certificate)

    def start(self) -> None:
        """Start Nginx and wait until it listens."""
        errors = self.folder / "stderr"
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                [needs("nginx"), "-p", self.folder, "-c", "nginx.conf", "-e", "stderr"],
                stdin=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
            )
        self.starter.started.append(self.process)

        def listens() -> bool:
            assert self.process.poll() is None, errors.read_text()
            return is_open(self.port)

        until(listens, "Nginx listens")

    def stop(self) -> None:
        """Let Nginx finish what it has begun, and go."""
        self.process.send_signal(signal.SIGQUIT)
        assert self.process.wait(PATIENCE) == 0

    def reload(self) -> set[int]:
        """Do `nginx -s reload`. Returns the pids of Nginx's workers from before."""
        before = set(children(self.process.pid))
        command = [needs("nginx"), "-p", self.folder, "-c", "nginx.conf", "-e", "stderr"]
        subprocess.run([*command, "-s", "reload"], check=True, capture_output=True)

        def renewed() -> bool:
            return len(set(children(self.process.pid)) - before) == 2

        until(renewed, "new workers of Nginx")
        return before

    def connect(self, source: str = "127.0.0.1", *, tls: bool = False) -> socket.socket:
        port = self.tls_port if tls else self.port
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
        if not tls:
            return connection
        assert self.client
        return self.client.wrap_socket(connection, server_hostname="localhost")

    def send(self, data: bytes, source: str = "127.0.0.1", *, tls: bool = False) -> Answer:
        """Send a message on a connection of its own and read the answer to the end."""
        with self.connect(source, tls=tls) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return parse(read_to_end(connection))

    def ask(
        self,
        target: str = "/",
        *lines: str | bytes,
        method: str = "GET",
        host: str = "localhost",
        body: bytes = b"",
        source: str = "127.0.0.1",
        tls: bool = False,
    ) -> Answer:
        """Send one request with header lines as they are given."""
        length = [f"Content-Length: {len(body)}"] if body else []
        first = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *length]
        return self.send(head(*first, *lines) + body, source, tls=tls)

    def log(self) -> bytes:
        return (self.folder / f"{SLUG}.access.log").read_bytes()

    def records(self) -> list[dict[str, Any]]:
        """Read Nginx's access log, strictly."""
        return [json.loads(line.decode()) for line in self.log().splitlines()]

    def logged(self, identifier: str) -> dict[str, Any]:
        """Wait for the one record of a request in Nginx's access log."""

        def find() -> list[dict[str, Any]]:
            return [r for r in self.records() if r["request_id"] == identifier]

        [record] = until(find, f"{identifier} in Nginx's log")
        return record

    def served(self, identifier: str) -> list[dict[str, Any]]:
        """List the access records of the service with an id."""
        records = [r for r in self.service.records() if r["logger"] == "access"]
        return [r for r in records if r["request_id"] == identifier]


def front(
    run: Starter,
    project: Path,
    changes: Mapping[str, str] = UNLIMITED,
    *lines: str,
    tls: bool = False,
    **settings: object,
) -> Front:
    """Start service and Nginx of a project, with lines added to the service's application."""
    run.source = project / "src"
    script = run.folder / FAULTS.name
    script.write_text("\n".join([FAULTS.read_text(), MORE, *lines, ""]))
    given = production(project)
    servers = int(given.get("APP_WORKERS", 1))
    port = free_ports(servers + 2)[0]
    ports = {"APP_PORT": port, "APP_ADMIN_PORT": 0}
    service = run.faulty(script, **{**given, **ports, **settings})
    if servers > 1:
        service.workers(servers)
    folder = run.folder / "nginx"
    folder.mkdir()
    made = Front(project, folder, service, port + servers, port + servers + 1, run)
    made.configure(changes, tls=tls)
    made.start()
    return made


@contextlib.contextmanager
def fronted(python: Path, folder: Path, project: Path, **more: Any) -> Iterator[Front]:
    """Do so for a block, and end both at its end."""
    with starter(python, folder, project / "src") as run:
        yield front(run, project, **more)


def check_problem(answer: Answer, status: int, title: str) -> None:
    """An answer has this status, and is a problem like those of the service."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    identifier = answer.headers["x-request-id"]
    expected = {"type": "about:blank", "title": title, "status": status, "request_id": identifier}
    assert {key: value for key, value in answer.json.items() if key != "detail"} == expected
