"""Checks that a request takes no more instructions than in the last release: `make bench-check`.

Callgrind counts the instructions of the service, which gets one request after another on one
connection, and those of `calibration.py`, in the same run and with the same Python.
`reference.json` has the ratio of the last release. The calibration cancels most of what differs
between builds of Python.

Instructions, not CPU time: on a machine with several times more to do than processors, ten runs of
this check were within 2 % of each other. Ratios of CPU times, measured in turn for as long, were
within 30 %, those of their minima within 18 %.
"""

import argparse
import json
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .bench import Bench, Effort
from .environments import FOLDER, ROOT, BenchmarkError, needs
from .process import Running, running
from .servers import Server

REFERENCE = Path(__file__).with_name("reference.json")
CALIBRATION = Path(__file__).with_name("calibration.py")
CALIBRATION_COUNTS = 100, 1_100
"""How often its work is done in two runs. The difference leaves the start of Python out."""
FIXED = {"PYTHONHASHSEED": "0"}
"""The order of sets must be the same in each run."""
ALLOWED = 0.10
"""How much more than in the last release is allowed, as a part of it."""
REQUESTS = 500
WARM_UP_REQUESTS = 100
TIMEOUT = 60.0
"""Seconds that a response may take."""
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Verdict:
    """What the check says."""

    text: str
    passed: bool


def judge(ratio: float, reference: Mapping[str, Any], python: str) -> Verdict:
    """Compare a ratio with that of the last release for the same version of Python."""
    found = f"instructions of a request / of the calibration: {ratio:.2f} (Python {python})"
    before = reference["ratios"].get(python)
    if before is None:
        return Verdict(f"{found}; no reference for this Python", True)
    change = ratio / before - 1
    compared = f"{found}; {before:.2f} in version {reference['version']}: {change:+.1%}"
    if change > ALLOWED:
        return Verdict(f"{compared}, more than {ALLOWED:.0%}", False)
    return Verdict(compared, True)


def renewed(
    ratio: float, reference: Mapping[str, Any], python: str, version: str
) -> dict[str, Any]:
    """Return a reference with this ratio; ratios of another version of the template are dropped."""
    ratios = reference["ratios"] if reference.get("version") == version else {}
    return {"version": version, "ratios": dict(sorted({**ratios, python: ratio}.items()))}


def instructions(dump: str) -> int:
    """Read the number of instructions from what Callgrind has written."""
    found = re.search(r"^totals: (\d+)$", dump, re.M)
    if not found:
        raise BenchmarkError("Callgrind has written no totals")
    return int(found[1])


def callgrind(*options: str) -> tuple[str, ...]:
    """Return what stands before a command to run it under Callgrind."""
    return (needs("valgrind"), "--tool=callgrind", f"--callgrind-out-file={_dump('%p')}", *options)


def _dump(pid: object) -> Path:
    return FOLDER / f"callgrind/{pid}"


def _control(server: Running, option: str) -> None:
    command = [needs("callgrind_control"), *option.split(), str(server.pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "OK" not in done.stdout:
        raise BenchmarkError(f"callgrind_control {option}: {done.stdout}{done.stderr}")


def _request(connection: socket.socket, count: int) -> None:
    for _ in range(count):
        connection.sendall(REQUEST)
        response = connection.recv(65536)
        if not response.startswith(b"HTTP/1.1 200 ") or not response.endswith(b"}"):
            raise BenchmarkError(f"not a complete response with status 200: {response!r}")


def instructions_of_request(server: Server) -> float:
    """Start a server under Callgrind and return its instructions per request."""
    # It counts when it is told to.
    command = (*callgrind("--instr-atstart=no"), *server.command)
    variables = {**server.variables, **FIXED}
    with (
        running(replace(server, command=command, variables=variables)) as process,
        socket.create_connection(("127.0.0.1", process.port), TIMEOUT) as connection,
    ):
        _control(process, "-i on")
        _request(connection, WARM_UP_REQUESTS)
        _control(process, "-z")
        _request(connection, REQUESTS)
        _control(process, "-d")
        text = Path(f"{_dump(process.pid)}.1").read_text()
    return instructions(text) / REQUESTS


def instructions_of_calibration(count: int) -> int:
    """Return the instructions of a process that does the calibration's work `count` times."""
    command = [*callgrind(), sys.executable, "-S", str(CALIBRATION), str(count)]
    with subprocess.Popen(
        command, env=FIXED, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        if process.wait():
            raise BenchmarkError(f"the calibration: exit code {process.returncode}")
    return instructions(_dump(process.pid).read_text())


def measure(bench: Bench) -> float:
    """Return the instructions of a request as a ratio to those of the calibration."""
    bench.install(bench.service)
    _dump("").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        request = pool.submit(instructions_of_request, bench.service)
        few, many = map(instructions_of_calibration, CALIBRATION_COUNTS)
    calibration = (many - few) / (CALIBRATION_COUNTS[1] - CALIBRATION_COUNTS[0])
    print(f"instructions: {request.result():,.0f} a request, {calibration:,.0f} the calibration")
    return request.result() / calibration


def template_version() -> str:
    """Return the version of the runtime, which is that of the template."""
    [version] = ROOT.glob("{{cookiecutter.project_slug}}/src/*/runtime/VERSION")
    return version.read_text("utf-8").strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the instructions of a request.")
    parser.add_argument("--renew", action="store_true", help="make this the reference")
    arguments = parser.parse_args()
    reference = json.loads(REFERENCE.read_text("utf-8")) if REFERENCE.exists() else {"ratios": {}}
    python = ".".join(platform.python_version_tuple()[:2])
    try:
        ratio = round(measure(Bench(Effort())), 3)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.renew:
        reference = renewed(ratio, reference, python, template_version())
        REFERENCE.write_text(json.dumps(reference, indent=2) + "\n", "utf-8")
    verdict = judge(ratio, reference, python)
    print(verdict.text)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
