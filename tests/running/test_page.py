"""The modules of the live page, one by one, in a real browser."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from runtime.admin.live import FOLDER, PAGE
from runtime.monitor.events import MAX_EVENTS

from ..chromium import Page, browsing
from ..tools import needs

NONE = "\N{EN DASH}"

FORMATS = {
    "format.count(0)": "0",
    "format.count(1234567)": "1,234,567",
    "format.rate(0.44)": "0.4",
    "format.rate(99.94)": "99.9",
    "format.rate(1234.5)": "1,235",
    "format.duration(null)": NONE,
    "format.duration(undefined)": NONE,
    "format.duration(0)": "0 ms",
    "format.duration(0.00044)": "0.4 ms",
    "format.duration(0.00996)": "10 ms",
    "format.duration(0.9994)": "999 ms",
    "format.duration(0.9996)": "1 s",
    "format.duration(12.34)": "12.3 s",
    "format.duration(99.6)": "100 s",
    "format.memory(0)": NONE,
    "format.memory(64 * 1024 ** 2)": "64 MiB",
    "format.memory(1536 * 1024 ** 2)": "1.5 GiB",
    "format.age(0.9)": "0 s",
    "format.age(59)": "59 s",
    "format.age(60)": "1 min",
    "format.age(3600 + 20 * 60)": "1 h 20 min",
    "format.age((12 * 24 + 4) * 3600)": "12 d 4 h",
}

# A chart of the seconds up to 1000, up to the value 10: x from 0 to 900, y from 100 up to 0.
CHARTS = {
    "charts.roundUp(10)": 10,
    "charts.roundUp(10.1)": 15,
    "charts.roundUp(0.07)": 0.08,
    "charts.roundUp(8100)": 10000,
    "runs([], [])": [],
    "runs([999, 1000], [5, 10])": [[[898, 50], [899, 50], [900, 0]]],
    # A missing second is bridged, more of them are a gap.
    "runs([997, 1000], [5, 5])": [[[896, 50], [897, 50], [900, 50]]],
    "runs([996, 1000], [5, 5])": [[[895, 50], [896, 50]], [[899, 50], [900, 50]]],
    # So are seconds without a value, such as the latency of no responses.
    "runs([999, 1000], [null, 0])": [[[899, 100], [900, 100]]],
    "runs([1000], [undefined])": [],
    "charts.line([[898, 50], [900, 0]])": "M898 50L900 0",
    "charts.area([[898, 50], [900, 0]])": "M898 100L898 50L900 0L900 100Z",
}

EVENTS = {
    "lists.signOf({ level: 'critical', name: 'worker.died' })": "failure",
    "lists.signOf({ level: 'error', name: 'reload.failed' })": "failure",
    "lists.signOf({ level: 'warning', name: 'check.failed' })": "warning",
    "lists.signOf({ level: 'info', name: 'reload.finished' })": "reload",
    "lists.signOf({ level: 'info', name: 'workers.changed' })": "change",
}

IMPORTS = """(async () => {
  for (const name of ["format", "charts", "lists"]) {
    globalThis[name] = await import(`/${name}.js`);
  }
  globalThis.runs = (numbers, values) => {
    return charts.runs(numbers, values, { now: 1000, limit: 10, gap: 3 });
  };
})()"""

TABLE = """(() => {
  const points = { number: [], rate: [], requests_in_flight: [], event_loop_lag: [], memory: [] };
  const table = new lists.WorkerTable(document.getElementById("workers"));
  const show = (...numbers) => {
    const workers = numbers.map((worker) => ({ worker, state: "ready", restarts: 0, requests: 7 }));
    table.render(workers, new Map(numbers.map((number) => [number, points])), 1000);
    return [...table.body.children];
  };
  const before = show(0, 1, 2);
  const after = show(0, 2);
  return {
    numbers: after.map((row) => row.firstChild.textContent),
    kept: after[0] === before[0] && after[1] === before[2],
    labels: [...after[0].children].map((cell) => cell.dataset.label),
    headings: [...document.querySelectorAll("thead th")].map((heading) => heading.textContent),
  };
})()"""


NO_UPDATES = "globalThis.EventSource = class extends EventTarget { close() {} };"
FAKE_UPDATES = """globalThis.EventSource = class extends EventTarget {
  constructor() {
    super();
    globalThis.updates = this;
  }

  close() {}
};"""
"""A stream whose messages a test makes."""

TELL = """globalThis.tell = (first, last, changes = {}) => {
  const number = [];
  for (let next = first; next <= last; next += 1) number.push(next);
  const all = (value) => number.map(() => value);
  const seconds = {
    number, time: number, elapsed: all(1), requests: number, errors: all(0), p50: all(null),
    p99: all(null), requests_in_flight: all(0), last_event: all(0),
  };
  const message = {
    service: "orders", now: last, requests: 0, errors: 0, reasons: [], reset: false, seconds,
    workers: [], events: [], ...changes,
  };
  const data = JSON.stringify(message);
  updates.dispatchEvent(new MessageEvent("message", { data, lastEventId: String(last) }));
}"""
"""Sends a message with these seconds. In each there were as many requests as its number."""

RATE = """document.querySelector('#requests [data-value="rate"]').textContent"""
CURSOR = """document.querySelector("#requests .cursor").style.left"""
POINT_AT_OLDEST = """(() => {
  const plot = document.querySelector("#requests .plot");
  const { left } = plot.getBoundingClientRect();
  plot.dispatchEvent(new PointerEvent("pointermove", { clientX: left }));
})()"""
FLOOD = f"""(() => {{
  for (let number = 1; number <= {MAX_EVENTS + 7}; number += 1) {{
    const event = {{ time: 0, level: "info", name: "test", message: `event ${{number}}` }};
    tell(5000 + number, 5000 + number, {{ events: [{{ number, event }}] }});
  }}
}})()"""
TEXTS = """[...document.querySelectorAll("#events p")].map((item) => item.textContent)"""


class Files(SimpleHTTPRequestHandler):
    """Has the files of the page under ``/live/``, too, where it links them."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("/live/", "/"))

    def log_message(self, *message: object) -> None:
        """Stay silent."""


@pytest.fixture
def origin() -> Iterator[str]:
    """The URL of a server that has the files of the page, and nothing else."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(FOLDER))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_modules_of_the_page(origin: str, tmp_path: Path) -> None:
    needs("chromium")
    async with browsing(tmp_path / "profile") as page:
        await page.run_first(NO_UPDATES)
        await page.open(f"{origin}/{PAGE}")
        await page.wait_for("document.readyState === 'complete'")
        await page.evaluate(IMPORTS)
        expected = FORMATS | CHARTS | EVENTS
        assert await values(page, list(expected)) == expected
        table = await page.evaluate(TABLE)
    assert table["numbers"] == ["0", "2"]
    assert table["kept"]
    assert table["labels"] == table["headings"] != []


async def test_page_keeps_fifteen_minutes(origin: str, tmp_path: Path) -> None:
    needs("chromium")
    async with browsing(tmp_path / "profile") as page:
        await page.run_first(FAKE_UPDATES)
        await page.open(f"{origin}/{PAGE}")
        await page.wait_for("globalThis.updates !== undefined")
        await page.evaluate(TELL)
        await page.evaluate("tell(2101, 3000)")
        assert await page.evaluate(RATE) == "2,998"  # the mean of five seconds
        await page.evaluate(POINT_AT_OLDEST)
        assert await page.evaluate(RATE) == "2,101"
        oldest = await page.evaluate(CURSOR)
        # A cursor at rest stays within the chart, as time passes.
        await page.evaluate("tell(3001, 3100)")
        assert await page.evaluate(RATE) == "2,201"
        assert await page.evaluate(CURSOR) == oldest
        await page.evaluate(FLOOD)
        texts = await page.evaluate(TEXTS)
        assert texts == [f"event {number}" for number in range(MAX_EVENTS + 7, 7, -1)]
        # Another run of the service has another history.
        await page.evaluate("tell(10, 20, { reset: true })")
        assert await page.evaluate(TEXTS) == []
        assert await page.evaluate(RATE) == "18"
        assert page.problems == []


async def values(page: Page, expressions: list[str]) -> dict[str, object]:
    """Return the value of each expression."""
    pairs = ", ".join(f"[{json.dumps(text)}, {text}]" for text in expressions)
    return dict(await page.evaluate(f"[{pairs}]"))
