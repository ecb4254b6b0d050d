// The table of workers and the list of events.

import { Sparkline, element } from "./charts.js";
import { MAX_EVENTS } from "./constants.js";
import * as format from "./format.js";

// What is shown of a worker, in the order of the columns in the HTML file. Those with `points` have
// a small chart.
const COLUMNS = [
  { text: (worker) => String(worker.worker) },
  { text: (worker) => worker.state },
  { text: (worker) => (worker.pid ? String(worker.pid) : format.NONE) },
  { text: (worker) => (worker.pid ? format.age(worker.age) : format.NONE) },
  { text: (worker) => format.count(worker.restarts) },
  {
    text: (worker) => format.count(worker.requests),
    points: "rate",
    floor: 1,
    format: (value) => `${format.rate(value)} a second`,
  },
  {
    text: (worker) => format.count(worker.requests_in_flight),
    points: "requests_in_flight",
    floor: 4,
    format: format.count,
  },
  {
    text: (worker) => format.duration(worker.event_loop_lag),
    points: "event_loop_lag",
    floor: 0.05,
    format: format.duration,
  },
  {
    text: (worker) => format.memory(worker.memory),
    points: "memory",
    floor: 1,
    format: format.memory,
  },
];

class WorkerRow {
  constructor(labels) {
    this.cells = COLUMNS.map((column, index) => {
      return this.makeCell(column, labels[index], index === 0 ? "th" : "td");
    });
    this.row = element("tr", {}, ...this.cells.map((cell) => cell.element));
    this.row.setAttribute("role", "row");
  }

  makeCell(column, label, name) {
    const text = element("span", { className: "value" });
    const content = element("div", {}, text);
    const cell = element(name, { className: column.points ? "charted" : "" }, content);
    cell.setAttribute("role", name === "th" ? "rowheader" : "cell");
    cell.dataset.label = label;
    const chart = column.points ? new Sparkline(label) : null;
    if (chart) content.append(chart.svg);
    return { element: cell, text, chart };
  }

  render(worker, points, now) {
    this.row.dataset.state = worker.state;
    COLUMNS.forEach((column, index) => {
      const { text, chart } = this.cells[index];
      text.textContent = column.text(worker);
      if (chart) {
        chart.render(points.number, points[column.points], now, column.floor, column.format);
      }
    });
  }
}

/** The table: a row for each worker, which stays as long as there is this worker. */
export class WorkerTable {
  constructor(body) {
    this.body = body;
    this.rows = new Map(); // by the number of the worker
    const headings = body.closest("table").querySelectorAll("thead th");
    this.labels = [...headings].map((heading) => heading.textContent);
  }

  render(workers, points, now) {
    const before = [...this.rows.keys()].join();
    this.rows = new Map(
      workers.map(({ worker }) => [worker, this.rows.get(worker) ?? new WorkerRow(this.labels)]),
    );
    if ([...this.rows.keys()].join() !== before) {
      this.body.replaceChildren(...[...this.rows.values()].map(({ row }) => row));
    }
    for (const worker of workers) {
      this.rows.get(worker.worker).render(worker, points.get(worker.worker), now);
    }
  }
}

/** Return the sign of an event: it has the same in the charts. */
export function signOf(event) {
  if (event.level === "error" || event.level === "critical") return "failure";
  if (event.level === "warning") return "warning";
  return event.name.startsWith("reload.") ? "reload" : "change";
}

/** The list, the newest event first. */
export class EventList {
  constructor(list) {
    this.list = list;
  }

  clear() {
    this.list.replaceChildren();
  }

  add(event) {
    const sign = signOf(event);
    const mark = element("i", { className: `sign ${sign}` });
    const time = element("time", { title: format.date(event.time) }, format.clock(event.time));
    time.dateTime = new Date(event.time * 1000).toISOString();
    const level = element("span", { className: "level" }, event.level);
    const message = element("p", {}, event.message);
    const item = element("li", { className: sign }, mark, time, level, message);
    if (event.stack) {
      const stack = element("pre", { tabIndex: 0 }, event.stack);
      item.append(element("details", {}, element("summary", {}, "Stack"), stack));
    }
    this.list.prepend(item);
    while (this.list.children.length > MAX_EVENTS) this.list.lastElementChild.remove();
  }
}
