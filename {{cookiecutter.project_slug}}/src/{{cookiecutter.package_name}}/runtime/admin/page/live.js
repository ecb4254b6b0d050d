// The live page. The admin process sends the last fifteen minutes, then each second what is new;
// here it is kept, and drawn. Whatever a message contains is shown as text.

import { Chart } from "./charts.js";
import { MAX_EVENTS, SECONDS, WINDOW } from "./constants.js";
import * as format from "./format.js";
import { EventList, WorkerTable, signOf } from "./lists.js";

const SILENCE = 4; // seconds without a message after which the page says so
const RECONNECT = 15; // seconds without a message after which it connects anew

const byId = (id) => document.getElementById(id);
const value = (id, name) => byId(id).querySelector(`[data-value="${name}"]`);

// --- what is known ---

let history = {}; // columns: number, time, elapsed, requests, ...; see Second in history.py
let points = new Map(); // the same for each worker, by its number; see Point
let events = []; // number and event
let latest = null; // the last message
let cursor = null; // the second that the reader points at

/** Append the columns of a message to those that are kept, and forget what is too old. */
function append(columns, more, now) {
  const kept = {};
  const old = columns.number ?? [];
  const start = old.findIndex((number) => number > now - SECONDS);
  for (const [name, values] of Object.entries(more)) {
    kept[name] = [...(start < 0 ? [] : columns[name].slice(start)), ...values];
  }
  return kept;
}

function forgetAll() {
  history = {};
  points = new Map();
  events = [];
  cursor = null;
  eventList.clear();
}

/** Return the second of the history that is nearest to `number`; null if there is none. */
function nearest(number) {
  if (number === null || !history.number.length) return null;
  return Math.min(Math.max(Math.round(number), history.number[0]), history.number.at(-1));
}

function keep(message) {
  if (message.reset) forgetAll();
  latest = message;
  history = append(history, message.seconds, message.now);
  points = new Map(
    message.workers.map(({ worker, points: more }) => {
      return [worker, append(points.get(worker) ?? {}, more, message.now)];
    }),
  );
  for (const { number, event } of message.events) {
    events.push({ number, event });
    eventList.add(event);
  }
  events = events.slice(-MAX_EVENTS);
  cursor = nearest(cursor);
}

// --- what is shown ---

const rates = (counts) => counts.map((count, index) => count / history.elapsed[index]);

const charts = [
  new Chart(byId("requests"), {
    lines: [{ name: "main", label: "requests a second", values: (h) => rates(h.requests) }],
    format: format.rate,
    floor: 10,
  }),
  new Chart(byId("errors"), {
    lines: [{ name: "bad", label: "errors a second", values: (h) => rates(h.errors) }],
    format: format.rate,
    floor: 1,
  }),
  new Chart(byId("latency"), {
    lines: [
      { name: "main", label: "p50", values: (h) => h.p50 },
      { name: "upper", label: "p99", values: (h) => h.p99 },
    ],
    format: format.duration,
    floor: 0.01,
  }),
  new Chart(byId("in-flight"), {
    lines: [{ name: "main", label: "requests in flight", values: (h) => h.requests_in_flight }],
    format: format.count,
    floor: 5,
  }),
];
const workerTable = new WorkerTable(byId("workers"));
const eventList = new EventList(byId("events"));

/** Return the mean rate of the last seconds up to an index. */
function meanRate(counts, index) {
  const from = Math.max(index + 1 - WINDOW, 0);
  const sum = (values) => values.slice(from, index + 1).reduce((total, one) => total + one, 0);
  const elapsed = sum(history.elapsed);
  return elapsed ? sum(counts) / elapsed : 0;
}

/** Return the index of the second that the numbers are of; one that is missing is in the next. */
function shownIndex() {
  if (cursor === null) return history.number.length - 1;
  return history.number.findIndex((number) => number >= cursor);
}

function showNumbers() {
  const index = shownIndex();
  // Before the first second there is nothing to take a difference of.
  const show = (part, name, text) => {
    value(part, name).textContent = index < 0 ? format.NONE : text();
  };
  const rate = (counts) => {
    return format.rate(cursor === null ? meanRate(counts, index) : rates(counts)[index]);
  };
  show("requests", "rate", () => rate(history.requests));
  show("errors", "rate", () => rate(history.errors));
  show("latency", "p50", () => format.duration(history.p50[index]));
  show("latency", "p99", () => format.duration(history.p99[index]));
  show("in-flight", "count", () => format.count(history.requests_in_flight[index]));
  value("requests", "total").textContent = format.count(latest.requests);
  value("errors", "total").textContent = format.count(latest.errors);
  byId("errors").classList.toggle("alarm", index >= 0 && meanRate(history.errors, index) > 0);
}

function showService() {
  const name = latest.service;
  const versions = latest.workers.map(({ version, revision }) => {
    return revision && revision !== version ? `${version} (${revision})` : version;
  });
  const isReady = latest.reasons.length === 0;
  byId("service").textContent = name;
  byId("version").textContent = [...new Set(versions.filter(Boolean))].join(", ");
  byId("readiness").textContent = isReady ? "ready" : `not ready: ${latest.reasons.join(", ")}`;
  byId("readiness").classList.toggle("bad", !isReady);
  document.title = isReady ? name : `not ready: ${name}`;
}

/** Return where to mark which events: each sample has the number of the last event before it. */
function findMarks() {
  return events.flatMap(({ number, event }) => {
    const index = history.last_event.findIndex((last) => last >= number);
    if (index <= 0) return []; // those before the first sample are at index 0, too
    const title = `${format.clock(event.time)} ${event.message}`;
    return [{ number: history.number[index], sign: signOf(event), title }];
  });
}

function render() {
  if (!latest || document.hidden) return;
  showService();
  showNumbers();
  const marks = findMarks();
  for (const chart of charts) {
    chart.render(history, latest.now);
    chart.mark(marks, latest.now);
    chart.point(cursor, latest.now);
  }
  workerTable.render(latest.workers, points, latest.now);
  byId("no-events").hidden = events.length > 0;
  showConnection();
}

// --- the cursor: the numbers of another second than the last one ---

function moveCursor(number) {
  if (!latest) return;
  cursor = nearest(number);
  showNumbers();
  showConnection();
  for (const chart of charts) chart.point(cursor, latest.now);
}

/** Tell a screen reader the numbers at the cursor: those who move it with keys may not see them. */
function announceNumbers() {
  if (cursor === null) return;
  const numbers = charts.map((chart) => chart.describe(history, shownIndex()));
  byId("announcement").textContent = `${cursorText()}: ${numbers.join(", ")}`;
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -60, PageDown: 60 };

for (const { plot } of charts) {
  plot.addEventListener("pointermove", (event) => {
    const { left, width } = plot.getBoundingClientRect();
    moveCursor(latest?.now - SECONDS * (1 - (event.clientX - left) / width));
  });
  plot.addEventListener("pointerleave", () => moveCursor(null));
  plot.addEventListener("blur", () => moveCursor(null));
  plot.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's: Alt+Left goes back
    if (event.key === "Escape") moveCursor(null);
    if (!(event.key in STEPS)) return;
    moveCursor((cursor ?? latest?.now) + STEPS[event.key]);
    announceNumbers();
    event.preventDefault();
  });
}

// --- the connection ---

let source = null;
let lastId = "";
let receivedAt = Date.now();
let connectedAt = Date.now();
let refusal = ""; // why the last attempt to connect was refused

function receive({ data, lastEventId }) {
  lastId = lastEventId;
  receivedAt = Date.now();
  refusal = "";
  keep(JSON.parse(data));
  render();
}

/** Return why a URL is refused, which EventSource does not tell; nothing if it is not, or no more. */
async function findRefusal(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1000 * SILENCE) });
    if (!response.ok) return (await response.json()).detail ?? "";
    await response.body.cancel();
  } catch {
    // no response, or one of something else than the service
  }
  return "";
}

function connect() {
  source?.close();
  connectedAt = Date.now();
  const opened = new EventSource(`live/updates?after=${encodeURIComponent(lastId)}`);
  opened.addEventListener("message", receive);
  opened.addEventListener("error", async () => {
    const wasRefused = opened.readyState === EventSource.CLOSED;
    const found = wasRefused ? await findRefusal(opened.url) : "";
    if (opened !== source) return;
    refusal = found;
    showConnection();
  });
  source = opened;
}

const cursorText = () => `at ${format.clock(history.time[shownIndex()])}`;

function connectionText(isLost) {
  if (refusal) return refusal;
  if (isLost) return `No data since ${format.clock(receivedAt / 1000)}, connecting`;
  if (!latest) return "Connecting";
  if (cursor === null) return "live";
  return cursorText();
}

/** Say whether the page shows the present, and which second the numbers are of. */
function showConnection() {
  const isLost = refusal !== "" || (Date.now() - receivedAt) / 1000 > SILENCE;
  const wasLost = document.body.classList.contains("lost");
  document.body.classList.toggle("lost", isLost);
  const text = connectionText(isLost);
  if (byId("connection").textContent === text) return;
  byId("connection").textContent = text;
  // A cursor at rest says nothing; see also announceNumbers.
  if (cursor === null || isLost || wasLost) byId("announcement").textContent = text;
}

/** EventSource connects again by itself, but not after a refusal, and not if nothing arrives. */
function watch() {
  // Not `performance.now()`: in some browsers it stands still while the machine is suspended.
  receivedAt = Math.min(receivedAt, Date.now()); // the clock may have been set back
  connectedAt = Math.min(connectedAt, Date.now());
  showConnection();
  const quiet = (Date.now() - Math.max(receivedAt, connectedAt)) / 1000;
  const wasRefused = source.readyState === EventSource.CLOSED && quiet > SILENCE;
  if (wasRefused || quiet > RECONNECT) connect();
}

document.addEventListener("visibilitychange", render);
setInterval(watch, 1000);
connect();
