"""Asks a running service whether it is ready.

``python -IS healthcheck.py`` is the health check of a container. It imports nothing of the service,
and so takes a fraction of the processor time of the command `healthcheck`. Where the admin port is,
it reads from the environment or `.env`.
"""

import http.client
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TIMEOUT = 3
"""Seconds to wait for the admin port."""
DEFAULTS = {"APP_ADMIN_ADDRESS": "127.0.0.1", "APP_ADMIN_PORT": "9000"}
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to listen there


def check(address: str, port: int) -> int:
    """Ask ``/readyz``, print the response, and return the exit code: 0 if it is ready, or 1."""
    host = LOOPBACK.get(address, address)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        print(response.read().decode())
        return 0 if response.status == http.client.OK else 1
    except (OSError, http.client.HTTPException) as error:
        shown = f"[{host}]" if ":" in host else host
        print(f"no response from {shown}:{port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()


def main() -> int:
    variables = {**DEFAULTS, **dict(_variables())}
    return check(variables["APP_ADMIN_ADDRESS"], int(variables["APP_ADMIN_PORT"]))


def _variables() -> Iterator[tuple[str, str]]:
    """Yield the variables of the admin port that are set. The last value counts."""
    env_file = Path(".env")
    lines = env_file.read_text("utf-8").splitlines() if env_file.is_file() else []
    for line in lines:
        name, _, value = line.strip().removeprefix("export ").partition("=")
        yield from _if_known(name.strip(), re.sub(r"\s#.*", "", value).strip().strip("\"'"))
    for name, value in os.environ.items():
        yield from _if_known(name, value)


def _if_known(name: str, value: str) -> Iterator[tuple[str, str]]:
    # As the settings do: names in any case, and an empty value is none.
    if value and name.upper() in DEFAULTS:
        yield name.upper(), value


if __name__ == "__main__":
    sys.exit(main())
