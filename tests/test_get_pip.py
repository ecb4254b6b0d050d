"""How pip comes into an environment of a Python that has none; `running/test_fresh.py` needs it."""

import base64
import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from errno import ECONNREFUSED
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from urllib.error import HTTPError

import pytest

from . import get_pip as program
from .bakes import TREE
from .ports import free_port

WITHOUT_ENSUREPIP = Path(__file__).with_name("without_ensurepip")
"""A folder with a module that hides the one of the standard library."""

WHEEL: str = program.load().WHEEL
SHA256: str = program.load().SHA256
HELPS = "On Debian and Ubuntu this helps: sudo apt install python3-venv"


class Index(ThreadingHTTPServer):
    """A package index with a password, and a pip that tells how it was called."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.link = f'<a href="../../files/{WHEEL}#sha256=0">{WHEEL}</a>'
        self.logins: list[str] = []
        with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
            archive.writestr("pip/__init__.py", "")
            archive.writestr("pip/__main__.py", "import sys; print(*sys.argv)")
        self.wheel = content.getvalue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Reply(BaseHTTPRequestHandler):
    """Sends the page of pip, and the wheel that it links to."""

    server: Index

    def do_GET(self) -> None:
        self.server.logins.append(self.headers.get("Authorization", ""))
        pages = {
            "/simple/pip/": f"<html>{self.server.link}</html>".encode(),
            f"/files/{WHEEL}": self.server.wheel,
        }
        body = pages.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def get_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The program as a module, for a user without settings."""
    for name in os.environ:
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    module = program.load()
    monkeypatch.setattr(module, "FOLDERS", [str(tmp_path)])
    return module


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment without pip."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin/python"


def run(python: Path, index: str, path: Path = program.PATH) -> "subprocess.CompletedProcess[str]":
    """Run the program as make does, where there is no ensurepip."""
    variables = {"PIP_INDEX_URL": index, "PYTHONPATH": str(WITHOUT_ENSUREPIP)}
    return subprocess.run(
        [python, path],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pip_installs_itself(index: Index, python: Path, tmp_path: Path) -> None:
    copy = tmp_path / "get_pip.py"
    text = program.PATH.read_text("utf-8")
    copy.write_text(text.replace(SHA256, hashlib.sha256(index.wheel).hexdigest()), "utf-8")
    done = run(python, index.url, copy)
    _, *options, wheel = done.stdout.split()
    assert options == ["install", "--quiet", "--no-index", "--no-deps"]
    assert Path(wheel).name == WHEEL
    assert not Path(wheel).exists()


def test_a_wheel_that_is_not_the_expected_one_is_refused(index: Index, python: Path) -> None:
    done = run(python, index.url)
    reason = f"its {WHEEL} does not have the expected SHA-256"
    assert done.stderr == f"Cannot download pip from {index.url}: {reason}. {HELPS}\n"
    assert (done.returncode, done.stdout) == (1, "")


def test_each_reason_is_one_line(index: Index, python: Path) -> None:
    index.link = '<a href="pip-1.0.tar.gz">pip-1.0.tar.gz</a>'
    nowhere = f"http://127.0.0.1:{free_port()}/simple"
    for url, reason in {
        index.url: f"it has no {WHEEL}",
        index.url + "/none": "HTTP Error 404: Not Found",
        nowhere: f"<urlopen error [Errno {ECONNREFUSED}] Connection refused>",
        "pypi": "unknown url type: 'pypi/pip/'",
    }.items():
        done = run(python, url)
        assert done.stderr == f"Cannot download pip from {url}: {reason}. {HELPS}\n"
        assert done.returncode == 1


def test_a_password_is_sent_and_not_shown(index: Index, python: Path) -> None:
    done = run(python, index.url.replace("//", "//ada:l%40ve@"))
    assert index.logins == ["Basic " + base64.b64encode(b"ada:l@ve").decode()] * 2
    assert f"from {index.url}: its" in done.stderr


def test_settings_are_those_of_pip(
    get_pip: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get_pip.read_settings() == {}
    (tmp_path / "pip.conf").write_text(
        "[install]\nindex_url = https://one.example/%20\n[global]\nindex-url = two\nproxy = three\n"
    )
    expected = {"index-url": "https://one.example/%20", "proxy": "three"}
    assert get_pip.read_settings() == expected
    own = tmp_path / "own.conf"
    own.write_text("[global]\nproxy = four\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(own))
    monkeypatch.setenv("PIP_CERT", "five")
    monkeypatch.setenv("PIP_PROXY", "")
    expected |= {"proxy": "four", "config-file": str(own), "cert": "five"}
    assert get_pip.read_settings() == expected


def test_downloads_go_through_the_proxy(index: Index, get_pip: ModuleType) -> None:
    with pytest.raises(HTTPError, match="404"):
        get_pip.download("http://packages.example/simple", {"proxy": index.url})


def test_it_is_the_pip_of_the_project() -> None:
    version = WHEEL.split("-")[1]
    assert f"pip=={version}" in (TREE / "constraints.txt").read_text("utf-8").splitlines()
