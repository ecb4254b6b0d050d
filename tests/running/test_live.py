"""The live page of a real service, in a real browser."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from runtime.testing import open_events

from docs import draw_live
from docs.draw_live import HEIGHT, SHOWN, SOURCE, WIDTH, open_live_page, photograph

from ..chromium import Page, browsing
from ..tools import needs
from .harness import ADMIN, Service, Starter, request, starter
from .lively import QUICK

WORKERS = 2
CONNECTIONS = 10
"""With them the quick route gives at most 2,500 responses a second."""
LOAD_SECONDS = 15
TOLERANCE = 0.02
HANG_TIMEOUT = 5
"""Seconds. Far more than a busy machine lets a process wait."""
BROWSERS = 10
MEASURED_SECONDS = 8.0


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Starter]:
    with starter(Path(sys.executable), tmp_path, SOURCE) as run:
        yield run


def start(run: Starter, **settings: object) -> Service:
    service = draw_live.start(run, APP_WORKERS=WORKERS, APP_HANG_TIMEOUT=HANG_TIMEOUT, **settings)
    service.workers(WORKERS)
    return service


class Clients:
    """Many requests from wrk, which counts the responses."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/"

    async def send(self) -> None:
        wrk = await asyncio.create_subprocess_exec(
            needs("wrk"),
            "--threads=1",
            f"--connections={CONNECTIONS}",
            f"--duration={LOAD_SECONDS}",
            "--timeout=20",
            "--latency",
            self._url,
            stdout=asyncio.subprocess.PIPE,
        )
        output = (await wrk.communicate())[0].decode()
        self.responses = int(re.findall(r"(\d+) requests in", output)[0])


async def shown(page: Page, part: str, name: str) -> str:
    """Return a number as the page shows it."""
    selector = f'#{part} [data-value="{name}"]'
    return str(await page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))


async def shown_count(page: Page, part: str, name: str) -> int:
    return int((await shown(page, part, name)).replace(",", ""))


RATES = """(() => {
  const plot = document.querySelector("#requests .plot");
  const cursor = plot.querySelector(".cursor");
  const shown = document.querySelector('#requests [data-value="rate"]');
  const read = () => Number(shown.textContent.replaceAll(",", ""));
  const now = read();
  const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const rates = [];
  let before = "";
  for (press("ArrowRight"); cursor.style.left !== before; press("ArrowLeft")) {
    rates.push(read());
    before = cursor.style.left;
  }
  press("Escape");
  return [now, rates];
})()"""
"""The large rate, and that of each second, the newest first, as the arrow keys show it."""

WORKER_REQUESTS = """[...document.querySelectorAll('#workers [data-label="Requests"] .value')]
  .map((cell) => Number(cell.textContent.replaceAll(",", "")))"""
EVENTS = """[...document.querySelectorAll("#events li")].map((item) => ({
  sign: item.className,
  text: item.querySelector("p").textContent,
  stack: item.querySelector("pre")?.textContent ?? null,
}))"""
TEXTS = """[...document.querySelectorAll("#events p")].map((item) => item.textContent)"""
LINES_OF_CHART = (
    """document.querySelector("#requests .line").getAttribute("d").split("M").length - 1"""
)
MARKS = """[...document.querySelectorAll("#requests .marks .sign")].map((mark) => mark.className)"""
RELOAD_SHOWN = (
    f"{TEXTS}[0] === 'reloaded' && {MARKS}.filter((sign) => sign === 'sign reload').length === 2"
)
TOTAL = """Number(
  document.querySelector('#requests [data-value="total"]').textContent.replaceAll(",", "")
)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def events(page: Page) -> list[dict[str, Any]]:
    """Return the events that the page lists, the oldest first."""
    return list(reversed(await page.evaluate(EVENTS)))


async def read_history(service: Service) -> dict[str, list[Any]]:
    """Return the seconds that the admin process has recorded, as columns."""
    async with open_events(service.admin_port, "/live/updates") as updates:
        return cast(dict[str, list[Any]], (await anext(updates)).json()["seconds"])


def rates_of(history: dict[str, list[Any]]) -> list[float]:
    """Return the rate of each second up to the last one with a response, the oldest first."""
    rates: list[float] = []
    last = history["number"][0] - 1
    columns = (history["number"], history["requests"], history["elapsed"])
    for number, requests, elapsed in zip(*columns, strict=True):
        rates += [requests / elapsed] * (number - last)  # one that is missing is in the next
        last = number
    while rates and not rates[-1]:
        rates.pop()
    return rates


def counted(service: Service) -> int:
    """Return the responses that ``/metrics`` has counted."""
    text = service.ask("/metrics", admin=True).body.decode()
    counts = re.findall(r"^http_server_request_duration_seconds_count\{.*\} (.*)$", text, re.M)
    return round(sum(map(float, counts)))


def block(service: Service) -> None:
    """Let one worker block its event loop."""
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(request("/report"))
        service.wait_for_message("its event loop was blocked")


async def harm(service: Service) -> None:
    """Kill a worker, block one, and reload all."""
    await asyncio.sleep(2)  # so that the page has something to compare with
    os.kill(service.workers(WORKERS)[1], signal.SIGKILL)
    await asyncio.to_thread(service.wait_for_message, "killed by SIGKILL")
    await asyncio.to_thread(block, service)
    service.signal(signal.SIGHUP)
    await asyncio.to_thread(service.wait_for_message, "^reloaded$")


async def test_page_agrees_with_clients_and_metrics(run: Starter, tmp_path: Path) -> None:
    needs("chromium")
    service = start(run)
    clients = Clients(service.port)
    async with browsing(tmp_path / "profile") as page:
        await page.show_as(WIDTH, HEIGHT)
        await open_live_page(page, service)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(clients.send())
            tasks.create_task(harm(service))
        total = counted(service)
        await page.wait_for(f"{TOTAL} >= {total}")
        await agrees(page, service, clients.responses, total)
        await tells_what_happened(page)
        assert page.problems == []
        origin = f"http://127.0.0.1:{service.admin_port}/"
        assert [url for url in page.requests if not url.startswith(origin)] == []
        picture = await photograph(page)
        await page.show_as(390, 844)
        assert await page.evaluate(OVERFLOW) == 0
        assert picture.startswith(b"\x89PNG")
        await survives(page, run, service, total)


async def agrees(page: Page, service: Service, responses: int, total: int) -> None:
    """Check the numbers of the page against what clients and ``/metrics`` have counted."""
    assert total == pytest.approx(responses, rel=TOLERANCE)
    assert await shown_count(page, "requests", "total") == pytest.approx(responses, rel=TOLERANCE)
    history = await read_history(service)
    assert sum(history["requests"]) == pytest.approx(responses, rel=TOLERANCE)
    expected = rates_of(history)
    now, rates = await page.evaluate(RATES)
    # It is a mean of five seconds that were recorded; one more may be missing.
    assert 0.98 * min(rates[:6]) <= now <= 1.02 * max(rates[:6])
    rates.reverse()
    assert rates[: len(expected)] == pytest.approx(expected, rel=0.01, abs=0.06)
    assert not any(rates[len(expected) :])
    assert max(rates) < CONNECTIONS / QUICK
    # Workers that were replaced begin at 0.
    workers = await page.evaluate(WORKER_REQUESTS)
    assert len(workers) == WORKERS
    assert sum(workers) < responses


async def tells_what_happened(page: Page) -> None:
    """Check the list of events, and their marks in a chart."""
    await page.wait_for(RELOAD_SHOWN)
    found = await events(page)
    texts = [event["text"] for event in found]
    expected = ["listening on", "killed by SIGKILL", "was blocked", "SIGHUP: reloading", "reloaded"]
    assert len(texts) == len(expected)
    for text, part in zip(texts, expected, strict=True):
        assert part in text
    signs = ["change", "failure", "failure", "reload", "reload"]
    assert [event["sign"] for event in found] == signs
    # The start is marked, too, if the history begins before the workers are ready.
    marks = await page.evaluate(MARKS)
    assert marks[-4:] == [f"sign {sign}" for sign in signs[1:]]
    assert "in make_report" in found[2]["stack"]
    assert await page.evaluate(LINES_OF_CHART) == 1  # no gap


async def survives(page: Page, run: Starter, service: Service, total: int) -> None:
    """Check what the page shows if the admin process is killed, and if the service is stopped."""
    connection = "document.getElementById('connection').textContent"
    os.kill(service.processes()[ADMIN], signal.SIGKILL)
    # Another admin process has that event, too.
    await page.wait_for(f"{TEXTS}.some((text) => text.startsWith('admin process, pid'))")
    history = await read_history(service)
    assert sum(history["requests"]) == pytest.approx(total, rel=TOLERANCE)
    service.signal(signal.SIGTERM)
    await asyncio.to_thread(service.wait)
    await page.wait_for(f"{connection}.startsWith('No data since')")
    assert await page.evaluate("document.body.className") == "lost"
    start(run, APP_ADMIN_PORT=service.admin_port)
    await page.wait_for(SHOWN)
    # The counts and events of another run are not added to those of the first one.
    await page.wait_for(f"{TOTAL} === 0 && {EVENTS}.length === 1")


def cpu_time(pid: int) -> float:
    """Return the seconds that the threads of a process have run."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def used_by(pids: dict[int, int]) -> dict[int, float]:
    """Return the part of a core that each process uses for a while, by slot."""
    before, begin = {slot: cpu_time(pid) for slot, pid in pids.items()}, time.monotonic()
    time.sleep(MEASURED_SECONDS)
    elapsed = time.monotonic() - begin
    return {slot: (cpu_time(pid) - before[slot]) / elapsed for slot, pid in pids.items()}


@pytest.mark.seconds
def test_ten_browsers_cost_the_workers_nothing(run: Starter) -> None:
    service = start(run)
    pids = service.processes()
    alone = used_by(pids)
    address = ("127.0.0.1", service.admin_port)
    with ExitStack() as stack:
        browsers = [stack.enter_context(socket.create_connection(address)) for _ in range(BROWSERS)]
        for browser in browsers:
            browser.sendall(request("/live/updates"))
        watched = used_by(pids)
        for browser in browsers:
            assert browser.recv(1 << 20).count(b"\ndata: ") >= MEASURED_SECONDS - 1
    assert watched[ADMIN] < 0.05
    for slot in range(WORKERS):
        assert watched[slot] < alone[slot] + 0.01
