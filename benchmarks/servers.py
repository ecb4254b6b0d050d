"""The servers that are compared: the service of a baked project, and its peers.

Each peer is started as its own documentation recommends for production, with uvloop and the fast
parser if it has one. `peers/` has the applications. `README.md` says what each one does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .environments import PACKAGE, SERVICE

PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Server:
    """How a server is started.

    In the command and the variables `{bin}` is the folder of commands of its environment, `{port}`
    the port, and `{workers}` the number of its worker processes.
    """

    name: str
    title: str
    environment: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


SERVICE_VARIABLES = {
    "APP_PORT": "{port}",
    "APP_ADMIN_PORT": "0",
    "APP_WORKERS": "{workers}",
}


def the_service(project: Path, name: str = "service", title: str = "this template") -> Server:
    """Return the service of a baked project, whose sources are used in place."""
    return Server(
        name,
        title,
        SERVICE,
        ("{bin}/python", "-m", PACKAGE),
        {**SERVICE_VARIABLES, "PYTHONPATH": f"{project / 'src'}:{PEERS}"},
    )


def _script(name: str) -> tuple[str, ...]:
    return ("{bin}/python", str(PEERS / f"{name}.py"))


def _uvicorn(application: str) -> tuple[str, ...]:
    ports = ("--port", "{port}", "--workers", "{workers}")
    return ("{bin}/uvicorn", *ports, "--loop", "uvloop", "--http", "httptools", application)


TORNADO = Server("tornado", "bare Tornado", "tornado", _script("bare_tornado"))
TORNADO_LOGGED = Server(
    "tornado-logged", "Tornado with its access log", "tornado", _script("tornado_logged")
)
FASTAPI = Server(
    "fastapi", "FastAPI, uvicorn, log, Prometheus", "fastapi", _uvicorn("fastapi_app:app")
)
FASTAPI_HELLO = Server(
    "uvicorn", "uvicorn --workers, FastAPI", "fastapi", _uvicorn("fastapi_hello:app")
)
AIOHTTP = Server("aiohttp", "aiohttp with its access log", "aiohttp", _script("aiohttp_app"))
AIOHTTP_GUNICORN = Server(
    "aiohttp-gunicorn",
    "aiohttp, gunicorn, access log",
    "aiohttp",
    (
        *("{bin}/gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "{workers}"),
        *("--worker-class", "aiohttp.GunicornUVLoopWebWorker", "--access-logfile", "-"),
        *("--no-control-socket", "--worker-tmp-dir", "/dev/shm", "aiohttp_app:make_app"),
    ),
)
LITESTAR = Server(
    "litestar", "Litestar, uvicorn, log, Prometheus", "litestar", _uvicorn("litestar_app:app")
)
GUNICORN = Server(
    "gunicorn",
    "gunicorn, ASGI worker, FastAPI",
    "gunicorn",
    (
        *("{bin}/gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "{workers}"),
        *("--worker-class", "asgi", "--timeout", "2", "--access-logfile", "-"),
        *("--no-control-socket", "--worker-tmp-dir", "/dev/shm", "fastapi_hello:app"),
    ),
)
GRANIAN = Server(
    "granian",
    "granian, FastAPI",
    "granian",
    (
        *("{bin}/granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
        *("--workers", "{workers}", "--loop", "uvloop", "--access-log"),
        *("--respawn-failed-workers", "--workers-kill-timeout", "30", "fastapi_hello:app"),
    ),
)
