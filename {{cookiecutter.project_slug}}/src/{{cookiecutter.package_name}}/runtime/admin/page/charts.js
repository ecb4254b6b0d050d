// Charts of fifteen minutes: SVG paths over a time axis, one unit a second.

export const SECONDS = 900;

const HEIGHT = 100;
const MAX_GAP = 3; // seconds without data over which a line goes on
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

/** Return the runs of neighbours among the points; `gap` is the most seconds between two. */
function runs(numbers, values, gap) {
  const found = [];
  let before = -Infinity;
  numbers.forEach((number, index) => {
    const value = values[index];
    if (value === null || value === undefined) return;
    if (number - before > gap) found.push([]);
    found.at(-1).push([number, value]);
    before = number;
  });
  return found;
}

/** Return the `d` of a path through the points, down to the baseline if it is an area. */
function outline(points, place, isArea) {
  const line = points.map(([number, value]) => place(number, value).join(" ")).join("L");
  // A single point is as wide as its second.
  const [first, last] = [points[0], points.at(-1)];
  const start = place(first[0] - 1, first[1]);
  if (!isArea) return `M${start.join(" ")}L${line}`;
  const end = place(last[0], last[1])[0];
  return `M${start[0]} ${HEIGHT}L${start.join(" ")}L${line}L${end} ${HEIGHT}Z`;
}

function draw(path, numbers, values, now, limit, gap, isArea) {
  const place = (number, value) => [
    SECONDS - (now - number),
    +(HEIGHT * (1 - value / limit)).toFixed(1),
  ];
  const parts = runs(numbers, values, gap).map((points) => outline(points, place, isArea));
  path.setAttribute("d", parts.join(""));
}

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
    draw(this.area, history.number, series[0], now, limit, MAX_GAP, true);
    this.paths.forEach((path, index) => {
      draw(path, history.number, series[index], now, limit, MAX_GAP, false);
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

  /** Show the events of these seconds: a line with a sign, which is a class. */
  mark(marks, now) {
    this.marks.replaceChildren(
      ...marks.map(({ number, sign, title }) => {
        const mark = element("i", { className: `sign ${sign}`, title });
        mark.style.left = `${100 * (1 - (now - number) / SECONDS)}%`;
        return mark;
      }),
    );
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
    draw(this.area, numbers, values, now, limit, 2 * 5 + MAX_GAP, true);
    draw(this.line, numbers, values, now, limit, 2 * 5 + MAX_GAP, false);
    this.svg.setAttribute("aria-label", `${this.label} at most ${format(maximum(values))}`);
  }
}
