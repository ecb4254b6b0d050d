"""The Nginx configurations of all projects: taken without a warning, and safe as gixy sees it."""

import contextlib
import functools
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime.http.application import WEBSOCKET_PING_INTERVAL
from runtime.http.event_stream import EventStream

from .bakes import ALL_ON, AWKWARD, LONGEST, SHORTEST, Answers, label
from .running.nginx import main
from .tools import needs

Bake = Callable[..., Path]

PROXIED: Answers = {**ALL_ON, "nginx": True, "deploy": "systemd"}
CONFIGURATIONS: list[Answers] = [
    *({"workers": count} for count in ("1", "2", "4", "64")),
    {"processes": "single"},
    *({"deploy": deploy} for deploy in ("docker", "none")),
]
NAMED = {
    **{label(answers): answers for answers in CONFIGURATIONS},
    "awkward": AWKWARD,
    "longest": LONGEST,
    "shortest": SHORTEST,
}

# Nginx 1.25.1 has a new way to say it, which older ones do not understand.
FORGIVEN = re.compile(r'\[warn\] .* the "listen \.\.\. http2" directive is deprecated')

# What gixy is wrong about:
SKIPPED = {
    # The first server answers for other names. Marked as the default it would clash with any other
    # site that is, such as the one that Debian installs.
    "default_server_flag",
    # It is sent by the locations, and not where the name is not ours.
    "hsts_header",
}


@functools.cache
def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate and its key."""
    folder.mkdir(exist_ok=True)
    pem, key = folder / "fullchain.pem", folder / "privkey.pem"
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(
        [needs("openssl"), *command, "-keyout", key, "-out", pem], check=True, capture_output=True
    )
    return pem, key


@pytest.fixture
def site(
    bake: Bake, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Lay out the configuration of a project as if installed, with other ports and places."""

    def site(answers: Answers, *, tls: bool = False) -> Path:
        project = bake(**{**PROXIED, **answers})
        slug = project.name
        folder = tmp_path / f"site-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        text = (project / f"deploy/nginx/{slug}.conf").read_text("utf-8")
        text = text.replace("/var/log/nginx/", f"{folder}/")
        (folder / f"{slug}.conf").write_text(unprivileged(text))
        (folder / "nginx.conf").write_text(main(slug))
        if tls:
            enabled = folder / f"{slug}.d"
            enabled.mkdir()
            for one in certificate(tmp_path_factory.getbasetemp() / "certificate"):
                shutil.copy(one, enabled)
            text = (project / "deploy/nginx/tls.conf").read_text("utf-8")
            assert f" /etc/nginx/{slug}.d/" in text
            text = text.replace("/etc/nginx/", f"{folder}/")
            (enabled / "tls.conf").write_text(unprivileged(text))
        return folder

    return site


def unprivileged(text: str) -> str:
    """Listen on ports that need no root: Nginx opens them even to test a configuration."""
    return re.sub(r"(listen (?:\[::\]:)?)(80|443)\b", r"\g<1>10\2", text)


def complaints_of_nginx(folder: Path) -> list[str]:
    """Let Nginx test a configuration. Returns what it says but for that all is well."""
    command = [needs("nginx"), "-t", "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    fine = r"syntax is ok$|test is successful$"
    lines = [line for line in done.stderr.splitlines() if not re.search(fine, line)]
    lines = [line for line in lines if not FORGIVEN.search(line)]
    assert lines or done.returncode == 0
    return lines


def findings_of_gixy(*folders: Path) -> set[str]:
    """Let gixy look for what is unsafe, in all at once, for it is slow to start."""
    names = [folder / "nginx.conf" for folder in folders]
    command = [needs("gixy"), "-f", "json", "--skips", ",".join(SKIPPED), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return {finding["plugin"] for finding in json.loads(done.stdout)}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", NAMED)
def test_nginx_accepts(site: Callable[..., Path], name: str, tls: bool) -> None:
    assert complaints_of_nginx(site(NAMED[name], tls=tls)) == []


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_host_needs_no_ipv6(site: Callable[..., Path]) -> None:
    folder = site({}, tls=True)
    files = [folder / "tornado-service.conf", folder / "tornado-service.d/tls.conf"]
    listens = [
        re.findall(r"^ *(#?) *listen (.*?) ?(?:ssl http2)?;$", path.read_text(), re.M)
        for path in files
    ]
    plain = [("", "1080"), ("#", "[::]:1080")]
    assert listens == [[*plain, *plain], [("", "10443"), ("#", "[::]:10443")]]
    if has_ipv6():
        # As the README says.
        for path in files:
            path.write_text(re.sub("# (listen )", r"\1", path.read_text()))
        assert complaints_of_nginx(folder) == []


def test_gixy_finds_nothing(site: Callable[..., Path]) -> None:
    sites = [site(answers, tls=tls) for answers in NAMED.values() for tls in (False, True)]
    assert findings_of_gixy(*sites) == set()


def change(folder: Path, old: str, new: str) -> None:
    """Change the installed configuration."""
    (path,) = folder.glob("tornado-service.conf")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("least_conn;", "least_con;", 'unknown directive "least_con"'),
        ("_request_id $tornado_service_id", "_request_id $x", 'unknown "tornado_service_id"'),
        ("rate=100r/s", "rate=fast", "invalid rate"),
        ('server_name "";', "server_name localhost;", "conflicting server name"),
    ],
)
def test_nginx_would_complain(
    site: Callable[..., Path], old: str, new: str, complaint: str
) -> None:
    folder = site({})
    change(folder, old, new)
    assert complaint in "\n".join(complaints_of_nginx(folder))


@pytest.mark.parametrize(
    ("old", "new", "plugin"),
    [
        ("$host$tornado_service_port", "$http_host", "host_spoofing"),
        ("server_tokens off;", "server_tokens on;", "version_disclosure"),
    ],
)
def test_gixy_would_complain(site: Callable[..., Path], old: str, new: str, plugin: str) -> None:
    good, folder = site({}), site({})
    change(folder, old, new)
    assert plugin in findings_of_gixy(good, folder)


def test_every_error_of_nginx_has_a_title(bake: Bake) -> None:
    text = (bake() / "deploy/nginx/tornado-service.conf").read_text("utf-8")
    # Those with an equals sign are Nginx's internal codes, answered as 400.
    lists = re.findall(r"^ *error_page ([0-9 ]+) /\.problem;$", text, re.MULTILINE)
    errors = {code for codes in lists for code in codes.split()}
    assert len(errors) > 10
    titled = re.findall(r'^ *([45]\d\d) ".+";$', text, re.MULTILINE)
    assert titled == sorted(errors)


def test_a_silent_websocket_or_stream_stays_open(bake: Bake) -> None:
    text = (bake() / "deploy/nginx/tornado-service.conf").read_text("utf-8")
    [timeout] = re.findall(r"^ *proxy_read_timeout (\d+)s;$", text, re.MULTILINE)
    assert int(timeout) > max(WEBSOCKET_PING_INTERVAL, EventStream.keep_alive_interval)
