"""Ports for servers that tests start."""

import contextlib
import itertools
import os
import random
import socket

FIRST_PORT, LAST_PORT = 10_000, 32_000
"""Below the ports that the system gives to clients, which come and go by the thousand here."""
SHARE = (LAST_PORT - FIRST_PORT) // 8
"""Ports of one of the processes that run tests, so that no two pick the same one."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_start = random.randrange(SHARE)
# None is picked twice in a row: a server need not listen yet when the next one needs a port.
_candidates = itertools.cycle(
    FIRST_PORT + _worker * SHARE + (_start + number) % SHARE for number in range(SHARE)
)


def free_ports(count: int) -> list[int]:
    """Find ports in a row that nobody uses."""
    for _ in range(SHARE):
        first = next(_candidates)
        ports = [first, *itertools.islice(_candidates, count - 1)]
        if ports[-1] - first == count - 1 and _are_free(ports):
            return ports
    raise AssertionError(f"there are no {count} free ports in a row")


def free_port() -> int:
    """Find a port that nobody uses."""
    return free_ports(1)[0]


def _are_free(ports: list[int]) -> bool:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server(("", port)))
        return True
    return False
