"""The modules of the live page, one by one, in a real browser."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from runtime.admin.live import FOLDER, PAGE, TOO_MANY_STREAMS
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
    "format.clock(new Date(2026, 0, 2, 0, 0, 5) / 1000)": "00:00:05",
    "format.date(new Date(2026, 0, 2, 0, 0, 5) / 1000)": "Jan 2, 2026, 00:00:05",
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


MARKS = """(() => {
  const lines = [{ name: "main", label: "requests", values: () => [] }];
  const chart = new charts.Chart(document.getElementById("requests"), { lines });
  const first = { number: 550, sign: "reload", title: "reloaded" };
  const second = { number: 1005, sign: "failure", title: "killed" };
  const show = (marks, now) => {
    chart.mark(marks, now);
    return [...chart.marks.children];
  };
  const [before] = show([first], 1000);
  const left = [before.style.left];
  const [same] = show([first], 1009);
  left.push(same.style.left);
  const texts = show([first, second], 1010).map((mark) => `${mark.className}: ${mark.title}`);
  return { left, kept: same === before, texts, none: show([], 1011) };
})()"""


FAKE_UPDATES = """globalThis.EventSource = class extends EventTarget {
  static CLOSED = 2;

  constructor() {
    super();
    globalThis.updates = this;
  }

  close() {}
};"""
"""A stream whose messages a test makes."""

FAKE_CLOCK = """globalThis.setInterval = (call) => {
  globalThis.tick = (seconds) => {
    Date.now = () => 1000 * seconds;
    call();
  };
};"""
"""What the page does each second it does when a test sets the clock, in seconds since 1970."""

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
PRESS = """globalThis.press = (key, modifiers = {}) => {
  const event = new KeyboardEvent("keydown", { key, cancelable: true, ...modifiers });
  document.querySelector("#requests .plot").dispatchEvent(event);
  return event.defaultPrevented;
}"""
MARKS_SHOWN = """document.querySelectorAll(".marks .sign").length"""
CONNECTION = "document.getElementById('connection')?.textContent"
ANNOUNCEMENT = "document.getElementById('announcement').textContent"
"""What a screen reader says, when it changes."""
FLOOD = f"""(() => {{
  for (let number = 1; number <= {MAX_EVENTS + 7}; number += 1) {{
    const event = {{ time: 0, level: "info", name: "test", message: `event ${{number}}` }};
    tell(5000 + number, 5000 + number, {{ events: [{{ number, event }}] }});
  }}
}})()"""
TEXTS = """[...document.querySelectorAll("#events p")].map((item) => item.textContent)"""


class Files(SimpleHTTPRequestHandler):
    """Has the files of the page under ``/live/``, too, where it links them. Refuses the stream."""

    def do_GET(self) -> None:
        if not self.path.startswith("/live/updates"):
            super().do_GET()
            return
        self.send_response(503)
        self.send_header("Content-Type", "application/problem+json")
        self.end_headers()
        self.wfile.write(json.dumps({"status": 503, "detail": TOO_MANY_STREAMS}).encode())

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
        await page.open(f"{origin}/{PAGE}")
        await page.wait_for(f"{CONNECTION} === {json.dumps(TOO_MANY_STREAMS)}")
        assert await page.evaluate(ANNOUNCEMENT) == TOO_MANY_STREAMS
        assert await page.evaluate("document.body.className") == "lost"
        await page.evaluate(IMPORTS)
        expected = FORMATS | CHARTS | EVENTS
        assert await values(page, list(expected)) == expected
        table = await page.evaluate(TABLE)
        marks = await page.evaluate(MARKS)
    assert table["numbers"] == ["0", "2"]
    assert table["kept"]
    assert table["labels"] == table["headings"] != []
    assert marks == {
        "left": ["50%", "49%"],
        "kept": True,
        "texts": ["sign reload: reloaded", "sign failure: killed"],
        "none": [],
    }


async def test_page_keeps_fifteen_minutes(origin: str, tmp_path: Path) -> None:
    needs("chromium")
    async with browsing(tmp_path / "profile") as page:
        for script in (FAKE_UPDATES, FAKE_CLOCK, TELL, PRESS):
            await page.run_first(script)
        await page.open(f"{origin}/{PAGE}")
        await page.wait_for("globalThis.updates !== undefined")
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
        await tells_numbers_when_a_key_is_pressed(page)
        await survives_missing_seconds(page)
        await survives_a_clock_that_is_set_back(page)
        assert page.problems == []


async def time_of(page: Page, second: int) -> str:
    """Return a time of day as the page writes it."""
    return str(await page.evaluate(f"import('/live/format.js').then((f) => f.clock({second}))"))


async def tells_numbers_when_a_key_is_pressed(page: Page) -> None:
    """Check what a screen reader says, with the seconds from 10 to 20."""
    assert await page.evaluate(ANNOUNCEMENT) == "live"
    # Alt+Left goes back to the page before.
    for modifier in ("altKey", "ctrlKey", "metaKey"):
        assert not await page.evaluate(f"press('ArrowLeft', {{ {modifier}: true }})")
    assert await page.evaluate(CONNECTION) == "live"
    assert await page.evaluate("press('ArrowLeft')")
    assert await page.evaluate(ANNOUNCEMENT) == (
        f"at {await time_of(page, 19)}: requests a second 19, errors a second 0, "
        f"p50 {NONE}, p99 {NONE}, requests in flight 0"
    )
    await page.evaluate("press('PageUp')")
    told = await page.evaluate(ANNOUNCEMENT)
    assert told.startswith(f"at {await time_of(page, 10)}: requests a second 10,")
    # As time passes, the oldest second becomes another one, and nothing is said.
    await page.evaluate("tell(21, 912)")
    assert await page.evaluate(CONNECTION) == f"at {await time_of(page, 13)}"
    assert await page.evaluate(ANNOUNCEMENT) == told
    await page.evaluate("press('Escape')")
    assert await page.evaluate(ANNOUNCEMENT) == "live"


async def survives_missing_seconds(page: Page) -> None:
    """Check the cursor and the marks if the last seconds were not recorded, and if none was."""
    await page.evaluate("tell(913, 912, { now: 920 })")
    await page.evaluate("press('ArrowRight')")
    assert await page.evaluate(CONNECTION) == f"at {await time_of(page, 912)}"
    assert await page.evaluate(RATE) == "912"
    event = {"time": 0, "level": "info", "name": "test", "message": "event"}
    events = json.dumps([{"number": 0, "event": event}])
    await page.evaluate(f"tell(5000, 4999, {{ now: 5000, events: {events} }})")
    await page.evaluate("press('ArrowLeft')")
    assert await page.evaluate(CONNECTION) == "live"
    assert await page.evaluate(RATE) == NONE
    # Of the first second after a gap it is not known which events belong to it.
    await page.evaluate("tell(5001, 5001)")
    assert await page.evaluate(MARKS_SHOWN) == 0


async def survives_a_clock_that_is_set_back(page: Page) -> None:
    """Check that the page still notices that nothing arrives, and connects again."""
    await page.evaluate("tick(7200); tell(5002, 5002); tick(3600)")
    assert await page.evaluate(CONNECTION) == "live"
    await page.evaluate("globalThis.silent = updates; tick(3605)")
    since = f"No data since {await time_of(page, 3600)}, connecting"
    assert await page.evaluate(CONNECTION) == since
    assert await page.evaluate(ANNOUNCEMENT) == since
    assert await page.evaluate("updates === silent")
    assert await page.evaluate("tick(3616); updates !== silent")
    # After a refusal it does not wait as long.
    await page.evaluate("silent = updates; updates.readyState = EventSource.CLOSED; tick(3621)")
    assert await page.evaluate("updates !== silent")


async def values(page: Page, expressions: list[str]) -> dict[str, object]:
    """Return the value of each expression."""
    pairs = ", ".join(f"[{json.dumps(text)}, {text}]" for text in expressions)
    return dict(await page.evaluate(f"[{pairs}]"))
