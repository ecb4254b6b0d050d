// The table of workers and the list of events.

import { Sparkline, element } from "./charts.js";
import * as format from "./format.js";

const MAX_EVENTS = 128;

// What is shown of a worker, in the order of the columns. Those with `points` have a small chart.
const COLUMNS = [
  { label: "Worker", text: (worker) => String(worker.worker) },
  { label: "State", text: (worker) => worker.state },
  { label: "Process id", text: (worker) => (worker.pid ? String(worker.pid) : format.NONE) },
  { label: "Age", text: (worker) => (worker.pid ? format.age(worker.age) : format.NONE) },
  { label: "Restarts", text: (worker) => format.count(worker.restarts) },
  {
    label: "Requests",
    text: (worker) => format.count(worker.requests),
    points: "rate",
    floor: 1,
    format: (value) => `${format.rate(value)} a second`,
  },
  {
    label: "In flight",
    text: (worker) => format.count(worker.in_flight),
    points: "in_flight",
    floor: 4,
    format: format.count,
  },
  {
    label: "Loop lag",
    text: (worker) => format.duration(worker.lag),
    points: "lag",
    floor: 0.05,
    format: format.duration,
  },
  {
    label: "Memory",
    text: (worker) => format.memory(worker.memory),
    points: "memory",
    floor: 1,
    format: format.memory,
  },
];

class WorkerRow {
  constructor() {
    this.cells = COLUMNS.map((column, index) => this.makeCell(column, index === 0 ? "th" : "td"));
    this.row = element("tr", {}, ...this.cells.map((cell) => cell.element));
    this.row.setAttribute("role", "row");
  }

  makeCell(column, name) {
    const text = element("span", { className: "value" });
    const content = element("div", {}, text);
    const cell = element(name, { className: column.points ? "charted" : "" }, content);
    cell.setAttribute("role", name === "th" ? "rowheader" : "cell");
    cell.dataset.label = column.label;
    const chart = column.points ? new Sparkline(column.label) : null;
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
    this.rows = [];
  }

  render(workers, points, now) {
    while (this.rows.length < workers.length) this.rows.push(new WorkerRow());
    this.rows.length = workers.length;
    workers.forEach((worker, index) => {
      this.rows[index].render(worker, points.get(worker.worker), now);
    });
    if (this.body.children.length !== workers.length) {
      this.body.replaceChildren(...this.rows.map((row) => row.row));
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
    const sign = element("i", { className: `sign ${signOf(event)}` });
    const time = element("time", { title: format.date(event.time) }, format.clock(event.time));
    time.dateTime = new Date(event.time * 1000).toISOString();
    const level = element("span", { className: "level" }, event.level);
    const message = element("p", {}, event.message);
    const item = element("li", { className: signOf(event) }, sign, time, level, message);
    if (event.stack) {
      const stack = element("pre", { tabIndex: 0 }, event.stack);
      item.append(element("details", {}, element("summary", {}, "Stack"), stack));
    }
    this.list.prepend(item);
    while (this.list.children.length > MAX_EVENTS) this.list.lastElementChild.remove();
  }
}
