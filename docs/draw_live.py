"""Draws docs/live.png: the live page in a real browser, of a service that really runs.

It keeps a service busy with its workers for fifteen minutes, in which a route fails for a while, a
worker is killed, another one is blocked, and the workers are reloaded. Run `make picture`; Chromium
has to be installed. SECONDS=60 tries it.
"""

import asyncio
import contextlib
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bakes import TREE
from tests.chromium import Page, browsing
from tests.running.harness import Service, Starter, get, starter

PICTURE = Path(__file__).with_name("live.png")
SOURCE = TREE / "src/{{cookiecutter.package_name}}"
"""The runtime is imported in place, as the package `runtime`."""
LIVELY = Path(__file__).parents[1] / "tests/running/lively.py"

SECONDS = int(os.environ.get("SECONDS", "900"))
WORKERS = 4
WIDTH, HEIGHT = 1280, 1000
REQUESTS_PER_SECOND = 70

SHOWN = "document.getElementById('connection')?.textContent === 'live'"
"""Whether the page shows the present."""


def start(run: Starter, **settings: object) -> Service:
    """Start a service in which a lot goes on."""
    # Otherwise Python would write byte code into the template.
    cache = {"PYTHONPYCACHEPREFIX": run.folder / "byte-code"}
    return run.start(str(LIVELY), **cache, **settings)


async def open_live_page(page: Page, service: Service) -> None:
    """Open the page of a service, and wait until it shows something."""
    await page.open(f"http://127.0.0.1:{service.admin_port}/")
    await page.wait_for(SHOWN)


async def photograph(page: Page, scheme: str = "light") -> bytes:
    """Return the page as PNG, in a colour scheme: light or dark."""
    await page.show_as(WIDTH, HEIGHT, scheme)
    drawn = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    await page.evaluate(drawn)
    return await page.picture()


async def keep_busy(service: Service) -> None:
    """Ask for this and that, more and less of it, and do what happens to services, without end."""
    workers = service.workers(WORKERS)
    begin = time.monotonic()
    tasks: set[asyncio.Task[object]] = set()
    events: list[tuple[float, Callable[[], object]]] = [
        (0.45, lambda: os.kill(workers[1], signal.SIGKILL)),
        (0.60, lambda: ask("/report")),
        (0.85, lambda: service.signal(signal.SIGHUP)),
    ]

    async def attempt(path: str) -> None:
        with contextlib.suppress(OSError, EOFError):  # its worker is killed
            await get(service.port, path)

    def ask(path: str) -> None:
        task = asyncio.create_task(attempt(path))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    while True:
        part = (time.monotonic() - begin) / SECONDS
        while events and part > events[0][0]:
            events.pop(0)[1]()
        rate = REQUESTS_PER_SECOND * (1 + 0.5 * math.sin(9 * part)) + random.uniform(-8, 8)
        await asyncio.sleep(random.expovariate(rate))
        failing = 6 if 0.2 < part < 0.28 else 0.1
        paths, weights = ["/orders", "/orders/17", "/orders/failing"], [70, 25, failing]
        ask(random.choices(paths, weights)[0])
        show(f"{SECONDS * (1 - part):.0f} s to go")


async def draw(service: Service, folder: Path) -> None:
    busy = asyncio.create_task(keep_busy(service))
    await asyncio.sleep(SECONDS)
    async with browsing(folder / "profile") as page:
        await page.show_as(WIDTH, HEIGHT)
        await open_live_page(page, service)
        PICTURE.write_bytes(await photograph(page))
    busy.cancel()


def show(text: str) -> None:
    """Show how far it is, where somebody looks."""
    if sys.stdout.isatty():
        print(f"\r{text}  ", end="", flush=True)


def main() -> None:
    """Draw the picture."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        run = stack.enter_context(starter(Path(sys.executable), folder, SOURCE))
        service = start(run, APP_WORKERS=WORKERS, APP_HANG_TIMEOUT=5)
        asyncio.run(draw(service, folder))
    print(f"\r{PICTURE}")


if __name__ == "__main__":
    main()
