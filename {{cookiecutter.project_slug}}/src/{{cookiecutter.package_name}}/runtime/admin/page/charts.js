// Charts of fifteen minutes: SVG paths over a time axis, one unit a second.

import { POINT_INTERVAL, SECONDS } from "./constants.js";

const HEIGHT = 100;
const MAX_GAP = 3; // seconds between two samples over which a line goes on
const MAX_POINT_GAP = 2 * POINT_INTERVAL + MAX_GAP;
const SVG = "http://www.w3.org/2000/svg";

/** Create an HTML element: element("p", { className: "minor" }, "text"). */
export function element(name, properties = {}, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children);
  return created;
}

function shape(name, attributes) {
  const created = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}

function canvas(names) {
  const paths = names.map((name) => shape("path", { class: name }));
  const svg = shape("svg", { viewBox: `0 0 ${SECONDS} ${HEIGHT}`, preserveAspectRatio: "none" });
  svg.append(...paths);
  return [svg, paths];
}

const ROUND = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

/** Return a round number, at least `value`. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return ROUND.map((factor) => factor * power).find((limit) => limit >= value * 0.9999);
}

/**
 * Return the runs of neighbours among the samples, as lists of points [x, y] of the canvas.
 *
 * `numbers` are seconds, `gap` is the most seconds between neighbours, and `limit` is the value at
 * the top. A run begins a second before its first sample, so that a single one is seen.
 */
export function runs(numbers, values, { now, limit, gap }) {
  const found = [];
  let before = -Infinity;
  numbers.forEach((number, index) => {
    const value = values[index];
    if (value === null || value === undefined) return;
    const x = SECONDS - (now - number);
    const y = +(HEIGHT * (1 - value / limit)).toFixed(1);
    if (number - before > gap) found.push([[x - 1, y]]);
    found.at(-1).push([x, y]);
    before = number;
  });
  return found;
}

/** Return a line through the points of a run, as a part of a path. */
export const line = (run) => `M${run.map((point) => point.join(" ")).join("L")}`;

/** Return the area between a run and the baseline, as a part of a path. */
export function area(run) {
  const [left, right] = [run[0][0], run.at(-1)[0]];
  return `M${left} ${HEIGHT}L${line(run).slice(1)}L${right} ${HEIGHT}Z`;
}

const draw = (path, parts) => path.setAttribute("d", parts.join(""));

const maximum = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 0);

/**
 * A chart with an axis, below the numbers of an article.
 *
 * Each of `lines` has a `name`, which is its class in the style sheet, and `values(history)`; the
 * first one is drawn as an area. `format` writes a value of the axis, and `floor` is the least that
 * the axis goes up to.
 */
export class Chart {
  constructor(article, { lines, format, floor }) {
    this.lines = lines;
    this.format = format;
    this.floor = floor;
    const areas = lines.map((line) => `area ${line.name}`);
    const [svg, paths] = canvas([areas[0], ...lines.map((line) => `line ${line.name}`)]);
    [this.area, ...this.paths] = paths;
    this.top = element("span", { className: "top" });
    this.marks = element("div", { className: "marks" });
    this.cursor = element("div", { className: "cursor", hidden: true });
    this.plot = element("div", { className: "plot", tabIndex: 0 });
    this.plot.setAttribute("role", "img");
    this.plot.append(svg, this.top, this.marks, this.cursor);
    this.label = article.querySelector("h2").textContent;
    const ticks = ["15 min", "10", "5", "now"].map((text) => element("span", {}, text));
    const axis = element("div", { className: "axis" }, ...ticks);
    axis.setAttribute("aria-hidden", "true");
    article.append(this.plot, axis);
  }

  render(history, now) {
    const series = this.lines.map((line) => line.values(history));
    const limit = roundUp(Math.max(this.floor, ...series.map(maximum)));
    series.forEach((values, index) => {
      const found = runs(history.number, values, { now, limit, gap: MAX_GAP });
      draw(this.paths[index], found.map(line));
      if (index === 0) draw(this.area, found.map(area));
    });
    this.top.textContent = this.format(limit);
    const most = this.lines.map((line, index) => {
      return `${line.label} at most ${this.format(maximum(series[index]))}`;
    });
    this.plot.setAttribute(
      "aria-label",
      `${this.label} over the last fifteen minutes: ${most.join(", ")}. Arrow keys show a second.`,
    );
  }

  /** Return the values of a second as text. */
  describe(history, index) {
    return this.lines
      .map((line) => `${line.label} ${this.format(line.values(history)[index])}`)
      .join(", ");
  }

  /** Show the events of these seconds: a line with a sign, which is a class. */
  mark(marks, now) {
    const key = JSON.stringify(marks);
    // An element that is replaced loses the tooltip that somebody reads.
    if (this.marked !== key) {
      this.marked = key;
      this.marks.replaceChildren(
        ...marks.map(({ sign, title }) => element("i", { className: `sign ${sign}`, title })),
      );
    }
    marks.forEach(({ number }, index) => {
      this.marks.children[index].style.left = `${100 * (1 - (now - number) / SECONDS)}%`;
    });
  }

  /** Show where the cursor is; nothing if `number` is null. */
  point(number, now) {
    this.cursor.hidden = number === null;
    this.cursor.style.left = `${100 * (1 - (now - number) / SECONDS)}%`;
  }
}

/** A small chart without an axis, for a cell of a table. */
export class Sparkline {
  constructor(label) {
    const [svg, paths] = canvas(["area", "line"]);
    [this.area, this.line] = paths;
    svg.setAttribute("class", "spark");
    svg.setAttribute("role", "img");
    this.label = label;
    this.svg = svg;
  }

  render(numbers, values, now, floor, format) {
    const limit = Math.max(floor, maximum(values)) * 1.05;
    const found = runs(numbers, values, { now, limit, gap: MAX_POINT_GAP });
    draw(this.area, found.map(area));
    draw(this.line, found.map(line));
    this.svg.setAttribute("aria-label", `${this.label} at most ${format(maximum(values))}`);
  }
}
