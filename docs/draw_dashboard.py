"""Draws docs/dashboard.png: the dashboard of a generated project, from real data.

It generates a project with the default answers and keeps an application busy with its workers for
five minutes, in which a worker is killed, a route fails for a while, another one blocks the event
loop, and the workers are reloaded. A real Prometheus watches. What the panels of the dashboard ask
is asked of Prometheus, and drawn where Grafana would. Run `make picture`; Prometheus has to be
installed.
"""

import asyncio
import json
import math
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cookiecutter.main import cookiecutter
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MultipleLocator

from tests.bakes import TEMPLATE
from tests.running.environments import environment
from tests.running.harness import Service, get, starter
from tests.running.prometheus import Prometheus, prometheus

SECONDS = 300
# Seconds of traffic before that, so that each rate has what it is taken over.
BEFORE = 20
# Seconds between two points of a line, and what a rate is taken over.
STEP, WINDOW = 2, "15s"
# Inches of a column and of a row of Grafana's grid.
COLUMN, ROW = 0.75, 0.36

APP = """\
import asyncio
import random
import time

from tornado_service.metrics import Metrics
from tornado_service.routing import Application
from tornado_service.web import Handler, Problem

FAILING = "failing"


class Orders(Handler):
    async def get(self):
        await asyncio.sleep(random.lognormvariate(-4, 0.5))
        self.reply({"orders": []})


class Order(Handler):
    async def get(self, number):
        await asyncio.sleep(random.lognormvariate(-2.5, 0.4))
        if number == FAILING:
            raise Problem(503, "The database does not answer.")
        if number == "0":
            raise Problem(404, "No such order.")
        self.reply({"number": number})


class Report(Handler):
    def get(self):
        time.sleep(random.uniform(0.3, 0.8))  # which blocks the event loop
        self.reply({"report": "long"})


def make_app(settings):
    routes = [("/orders", Orders), ("/orders/{number}", Order), ("/report", Report)]
    return Application(settings, routes, observers=[Metrics()])
"""


async def keep_busy(service: Service) -> None:
    """Ask for this and that, more and less of it, and do what happens to services."""
    begin = time.monotonic() + BEFORE
    tasks: set[asyncio.Task[object]] = set()
    events: list[tuple[int, Callable[[], object]]] = [
        (60, lambda: os.kill(service.workers(4)[1], signal.SIGKILL)),
        (250, lambda: service.signal(signal.SIGHUP)),
    ]
    while (second := time.monotonic() - begin) < SECONDS:
        while events and second > events[0][0]:
            events.pop(0)[1]()
        rate = 60 + 35 * math.sin(second / 40) + random.uniform(-8, 8)
        await asyncio.sleep(random.expovariate(rate))
        path = random.choices(
            ["/orders", "/orders/17", "/orders/0", "/orders/failing", "/report", "/wp-login.php"],
            [60, 30, 2, 12 if 110 < second < 160 else 0.2, 0.8 if 190 < second < 230 else 0, 2],
        )[0]
        task = asyncio.create_task(get(service.port, path))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        show(f"{SECONDS - second:.0f} s to go")
    await asyncio.gather(*tasks, return_exceptions=True)


class Picture:
    """The dashboard on paper."""

    def __init__(self, dashboard: dict[str, Any], source: Prometheus) -> None:
        self._source = source
        self._panels = dashboard["panels"]
        self._end = time.time()
        self._begin = self._end - SECONDS
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in self._panels)
        self._rows = rows
        self._figure = plt.figure(figsize=(24 * COLUMN, rows * ROW), facecolor="#111217")

    def draw(self, path: Path) -> None:
        kinds = {"stat": self._stat, "timeseries": self._lines, "heatmap": self._heat_map}
        for panel in self._panels:
            place = panel["gridPos"]
            axes = self._figure.add_axes(self._frame(**place, heading=1.4))
            axes.set_facecolor("#181b1f")
            title = panel["title"]
            if panel["type"] == "row":
                axes.axis("off")
                axes.text(0, 0, f"⌄ {title}", weight="bold", size=12)
                continue
            axes.set_title(title, loc="left", size=11, weight="bold")
            if panel["type"] == "table":
                self._table(axes, panel)
            else:
                kinds[panel["type"]](axes, panel)
        self._figure.savefig(path, dpi=80, facecolor=self._figure.get_facecolor())

    def _frame(
        self, x: int, y: int, w: int, h: int, heading: float
    ) -> tuple[float, float, float, float]:
        """Place a panel, in parts of the figure; the y of Grafana goes down."""
        foot = 1.8
        if h < 5:
            foot = heading = 1.1 if h > 1 else 0.3
        left, width = (x + 0.9) / 24, (w - 1.3) / 24
        return (
            left,
            (self._rows - y - h + foot) / self._rows,
            width,
            (h - heading - foot) / self._rows,
        )

    def _ask(self, target: dict[str, Any], *, instant: bool) -> list[dict[str, Any]]:
        text = target["expr"]
        for variable, value in {
            "$job": "tornado-service",
            "$instance": ".*",
            "$worker": ".*",
            "$__rate_interval": WINDOW,
            "$__range": f"{SECONDS}s",
        }.items():
            text = text.replace(variable, value)
        if instant:
            found: list[dict[str, Any]] = self._source.ask(
                "query", query=text, time=str(self._end)
            )["result"]
        else:
            found = self._source.ask(
                "query_range",
                query=text,
                start=str(self._begin + STEP),
                end=str(self._end),
                step=str(STEP),
            )["result"]
        return found

    def _stat(self, axes: Axes, panel: dict[str, Any]) -> None:
        axes.set_xticks([])
        axes.set_yticks([])
        defaults = panel["fieldConfig"]["defaults"]
        many = len(panel["targets"]) > 1
        for number, target in enumerate(panel["targets"]):
            found = self._ask(target, instant=True)
            value = float(found[0]["value"][1]) if found else math.nan
            steps = thresholds(panel, target.get("legendFormat", ""))
            colour = [one["color"] for one in steps if value >= (one["value"] or -math.inf)][-1]
            text = shown(value, defaults["unit"])
            x = (number + 0.5) / len(panel["targets"])
            colour = COLOURS.get(colour, colour)
            axes.text(x, 0.52, text, color=colour, size=26, ha="center", va="center", weight="bold")
            if many:
                axes.text(x, 0.1, target["legendFormat"], size=10, ha="center")

    def _lines(self, axes: Axes, panel: dict[str, Any]) -> None:
        custom = panel["fieldConfig"]["defaults"]["custom"]
        lines = []
        for target in panel["targets"]:
            for one in self._ask(target, instant=False):
                times = [at - self._begin for at, _ in one["values"]]
                values = [float(value) for _, value in one["values"]]
                lines.append((legend(target, one["metric"]), times, values))
        lines.sort(key=lambda line: line[0])
        base: dict[float, float] = {}
        for name, times, values in lines:
            bottom = [base.get(at, 0.0) for at in times]
            if custom.get("stacking"):
                values = [value + under for value, under in zip(values, bottom, strict=True)]
                base |= dict(zip(times, values, strict=True))
            [line] = axes.plot(
                times, values, label=name, linewidth=1.4, color=colour_of(panel, name)
            )
            if custom.get("fillOpacity"):
                axes.fill_between(times, bottom, values, color=line.get_color(), alpha=0.12)
        unit = panel["fieldConfig"]["defaults"]["unit"]
        axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
        top = axes.get_ylim()[1]
        axes.set_ylim(0, 1.05 * top if top > 0 else 1)
        if custom.get("thresholdsStyle") and thresholds(panel)[-1]["value"] < axes.get_ylim()[1]:
            axes.axhline(thresholds(panel)[-1]["value"], color=COLOURS["red"], linestyle="--", lw=1)
        self._time_axis(axes)
        if lines:
            columns = 2 if max(len(name) for name, _, _ in lines) > 15 else 4
            axes.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, -0.09),
                ncols=columns,
                frameon=False,
                fontsize=8,
                labelspacing=0.2,
            )

    def _heat_map(self, axes: Axes, panel: dict[str, Any]) -> None:
        [target] = panel["targets"]
        found = self._ask(target, instant=False)
        buckets = sorted((float(one["metric"]["le"]), dict(one["values"])) for one in found)
        times = sorted({at for _, values in buckets for at in values})
        cells, under = [], dict.fromkeys(times, 0.0)
        for _, values in buckets:
            counts = {at: float(values.get(at, 0)) for at in times}
            cells.append([max(counts[at] - under[at], 0) or math.nan for at in times])
            under = counts
        x = [at - self._begin for at in times]
        norm = PowerNorm(panel["options"]["color"]["exponent"])
        axes.grid(visible=False)
        axes.pcolormesh(x, range(len(buckets)), cells, cmap="inferno", norm=norm, shading="nearest")
        axes.set_yticks(range(len(buckets)), [shown(le, "s") for le, _ in buckets], size=7)
        self._time_axis(axes)

    def _table(self, axes: Axes, panel: dict[str, Any]) -> None:
        axes.axis("off")
        columns, rows = [], {}
        for target in panel["targets"]:
            name = f"Value #{target['refId']}"
            columns.append(override(panel, name, "displayName"))
            unit = override(panel, name, "unit") or "none"
            for one in self._ask(target, instant=True):
                key = one["metric"]["instance"], one["metric"]["worker"]
                rows.setdefault(key, {})[columns[-1]] = shown(float(one["value"][1]), unit)
        table = axes.table(
            [
                [*key, *(cells.get(name, "") for name in columns)]
                for key, cells in sorted(rows.items())
            ],
            colLabels=["instance", "worker", *columns],
            loc="upper center",
            cellLoc="left",
            edges="horizontal",
        )
        table.auto_set_font_size(False)
        table.set_fontsize(11)
        table.scale(1, 2)
        for cell in table.get_celld().values():
            cell.set_edgecolor("#3a3d44")

    def _time_axis(self, axes: Axes) -> None:
        axes.set_xlim(0, SECONDS)
        axes.xaxis.set_major_locator(MultipleLocator(60))
        axes.xaxis.set_major_formatter(lambda at, _: f"{at / 60:.0f} min")
        axes.grid(axis="y", color="#2a2d33", linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_visible(False)


COLOURS = {
    "blue": "#5794f2",
    "green": "#73bf69",
    "orange": "#ff9830",
    "red": "#f2495c",
    "yellow": "#fade2a",
}


def override(panel: dict[str, Any], name: str, what: str) -> Any:
    """Find what a panel says of one of its fields in particular."""
    for one in panel["fieldConfig"]["overrides"]:
        if one["matcher"]["options"] == name:
            for property_ in one["properties"]:
                if property_["id"] == what:
                    return property_["value"]
    return None


def colour_of(panel: dict[str, Any], name: str) -> str | None:
    """Find the colour that lines of some names have; in shades, if there are several."""
    for one in panel["fieldConfig"]["overrides"]:
        found = re.search(one["matcher"]["options"].strip("/"), name)
        if found and one["matcher"]["id"] == "byRegexp":
            base = COLOURS[one["properties"][0]["value"]["fixedColor"]]
            return f"{base}{random.Random(name).randrange(120, 256):02x}"
    return None


def thresholds(panel: dict[str, Any], name: str = "") -> list[dict[str, Any]]:
    """List the steps at which the colour of a panel changes."""
    found = override(panel, name, "thresholds") or panel["fieldConfig"]["defaults"]["thresholds"]
    steps: list[dict[str, Any]] = found["steps"]
    return steps


def legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    """Name a line as Grafana would."""
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), target["legendFormat"])


def shown(value: float, unit: str) -> str:
    """Write a value with its unit, shortly."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "+Inf"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        if value >= 60:
            return f"{value / 60:.3g} min"
        return f"{value:.3g} s" if value >= 1 or not value else f"{1000 * value:.3g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g} req/s" if unit == "reqps" else f"{value:.0f}"


def show(text: str) -> None:
    """Tell how far it is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text} ", end="", file=sys.stderr)


def main() -> None:
    """Make the picture."""
    mpl.use("agg")
    for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color"):
        mpl.rcParams[name] = "#ccccdc"
    mpl.rcParams |= {"xtick.labelsize": 8, "ytick.labelsize": 8, "axes.titlecolor": "#ccccdc"}
    random.seed(17)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = Path(
            cookiecutter(str(TEMPLATE), no_input=True, default_config=True, output_dir=name)
        )
        python = environment(project, folder)
        with starter(python, folder, project / "src") as run:
            service = run.own(APP, APP_WORKERS=4).wait_until_ready()
            with prometheus(project, folder, service) as source:
                asyncio.run(keep_busy(service))
                [dashboard] = (project / "deploy/grafana/dashboards").glob("*.json")
                picture = Picture(json.loads(dashboard.read_text()), source)
                picture.draw(Path(__file__).with_name("dashboard.png"))


if __name__ == "__main__":
    main()
