"""Install pip into the virtual environment whose Python runs this, if it has none.

``make`` runs it where uv is not installed. On Debian and Ubuntu, Python has no ``ensurepip`` unless
python3-venv is installed. Then pip is downloaded, from the index that it is configured for.
"""

import configparser
import hashlib
import html
import importlib.util
import os
import re
import runpy
import ssl
import sys
import tempfile
import urllib.request as web
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

# That of constraints.txt. The page of the index shows the hash.
WHEEL = "pip-26.3-py3-none-any.whl"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
FOLDERS = ["/etc/xdg/pip", "/etc", "~/.pip", "~/.config/pip"]
"""Where pip.conf may be. The last one that has a setting counts."""
TIMEOUT = 30
"""Seconds to wait for the index."""


def read_settings() -> dict[str, str]:
    """Return the settings of pip: those in its files, then those in the environment."""
    paths = [Path(folder, "pip.conf").expanduser() for folder in FOLDERS]
    files = configparser.RawConfigParser()
    files.read([*paths, os.environ.get("PIP_CONFIG_FILE", "")])
    found = [item for name in ("global", "install") if name in files for item in files.items(name)]
    found += [(name[4:], value) for name, value in os.environ.items() if name.startswith("PIP_")]
    return {name.lower().replace("_", "-"): value for name, value in found if value}


def without_password(url: str) -> str:
    """Return an address without the name and password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def make_opener(index: str, settings: dict[str, str]) -> web.OpenerDirector:
    """Return what opens addresses of an index, with the proxy, certificate and password for it."""
    proxy, parts = settings.get("proxy"), urlsplit(index)
    passwords = web.HTTPPasswordMgrWithPriorAuth()
    if parts.username:
        host = urljoin(without_password(index), "/")
        login = unquote(parts.username), unquote(parts.password or "")
        passwords.add_password(None, host, *login, is_authenticated=True)
    return web.build_opener(
        web.ProxyHandler({"http": proxy, "https": proxy} if proxy else None),
        web.HTTPSHandler(context=ssl.create_default_context(cafile=settings.get("cert"))),
        web.HTTPBasicAuthHandler(passwords),
    )


def download(index: str, settings: dict[str, str]) -> bytes:
    """Return the wheel of pip. Raise a ValueError if the index does not have it."""
    opener = make_opener(index, settings)
    page_url = without_password(index).rstrip("/") + "/pip/"
    with opener.open(page_url, timeout=TIMEOUT) as response:
        page = response.read().decode()
    link = re.search(rf"""href=["']([^"'#]*{re.escape(WHEEL)})""", page)
    if not link:
        raise ValueError(f"it has no {WHEEL}")
    with opener.open(urljoin(page_url, html.unescape(link[1])), timeout=TIMEOUT) as response:
        wheel: bytes = response.read()
    if hashlib.sha256(wheel).hexdigest() != SHA256:
        raise ValueError(f"its {WHEEL} does not have the expected SHA-256")
    return wheel


def install(wheel: bytes) -> None:
    """Let pip install itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, WHEEL)
        path.write_bytes(wheel)
        sys.path.insert(0, str(path))
        sys.argv = ["pip", "install", "--quiet", "--no-index", "--no-deps", str(path)]
        runpy.run_module("pip", run_name="__main__", alter_sys=True)


def main() -> None:
    """Install pip, or say in one line why it is impossible and what helps."""
    if importlib.util.find_spec("pip"):
        return
    with suppress(ImportError):
        import ensurepip

        ensurepip.bootstrap(default_pip=True)
        return
    settings = read_settings()
    index = settings.get("index-url", "https://pypi.org/simple")
    try:
        wheel = download(index, settings)
    except (OSError, ValueError, HTTPException) as error:
        reason = f"Cannot download pip from {without_password(index)}: {error}."
        sys.exit(f"{reason} On Debian and Ubuntu this helps: sudo apt install python3-venv")
    install(wheel)


if __name__ == "__main__":
    main()
