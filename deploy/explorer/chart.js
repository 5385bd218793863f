// A chart of lines, bands and points as SVG, with the values under the pointer.
import { color } from "./colors.js";
import { range, ticks } from "./ticks.js";

const SPACE = "http://www.w3.org/2000/svg";
const EDGE = { left: 52, right: 12, top: 42, bottom: 42 };
const REACH = 30; // pixels from the pointer to what it shows
const FONT = "system-ui, sans-serif";

const svg = (name, attributes = {}, text = "") => {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
};

const charts = new WeakMap(); // element: what it shows
const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => paint(target)));

/**
 * Show traces in an element.
 *
 * A trace is {name, kind: "line" | "band" | "points", x, y, color, width, dash, legend, pick, labels}; a band has `low` and
 * `high` in place of y, and points may have `bars` from bid to ask. The axes are {title, digits, reversed}, perhaps with `names` of whole numbers. A click on a trace
 * calls `onPick` with its `pick`.
 */
export const drawChart = (element, traces, x, y, onPick = null) => {
  if (!charts.has(element)) {
    resized.observe(element);
    element.addEventListener("pointermove", (event) => point(element, event));
    element.addEventListener("pointerleave", () => element.querySelector(".tip")?.remove());
    element.addEventListener("click", (event) => {
      const chart = charts.get(element);
      const hit = nearestPoint(chart, element, event);
      if (hit && hit.trace.pick !== undefined) chart.onPick?.(hit.trace.pick);
    });
  }
  charts.set(element, { traces, x, y, onPick });
  element.data = traces; // for tests and for a console
  paint(element);
};

/** Show no traces in an element. */
export const clearChart = (element) => {
  if (charts.has(element)) charts.set(element, { traces: [] });
  element.data = null;
  element.replaceChildren();
};

/** Paint what an element shows again, in the colors of now. */
export const paint = (element) => {
  const chart = charts.get(element);
  const [width, height] = [element.clientWidth, element.clientHeight];
  if (!chart?.traces.length || !width || !height) return;
  const { traces, x, y } = chart;
  const [x0, x1] = range(traces.flatMap((trace) => trace.x), 0.02);
  const [y0, y1] = range(traces.flatMap((trace) => (trace.kind === "band" ? [...trace.low, ...trace.high] : trace.y)), 0.05);
  const across = (value) => {
    const share = (value - x0) / (x1 - x0);
    return EDGE.left + (x.reversed ? 1 - share : share) * (width - EDGE.left - EDGE.right);
  };
  const rows = legendRows(traces.filter((trace) => trace.legend), width - EDGE.right);
  const below = (rows.length - 1) * LEGEND_ROW; // what the legend takes beyond its first row
  const top = EDGE.top + Math.max(below, 0);
  const up = (value) => height - EDGE.bottom - ((value - y0) / (y1 - y0)) * (height - top - EDGE.bottom);
  Object.assign(chart, { across, up });
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": FONT, "font-size": 12 });
  const put = (name, attributes, text) => root.append(svg(name, attributes, text));
  const [quiet, line] = [color("quiet"), color("line")];
  const marks = x.names ? x.names.map((_, i) => i) : ticks(x0, x1, Math.max(3, width / 60));
  for (const value of marks) {
    put("line", { x1: across(value), x2: across(value), y1: top, y2: height - EDGE.bottom, stroke: line });
    put("text", { x: across(value), y: height - EDGE.bottom + 16, fill: quiet, "text-anchor": "middle" }, x.names?.[value] ?? String(value));
  }
  for (const value of ticks(y0, y1, height / 40)) {
    put("line", { x1: EDGE.left, x2: width - EDGE.right, y1: up(value), y2: up(value), stroke: line });
    put("text", { x: EDGE.left - 6, y: up(value) + 4, fill: quiet, "text-anchor": "end" }, String(value));
  }
  put("text", { x: (width + EDGE.left) / 2, y: height - 6, fill: quiet, "text-anchor": "middle" }, x.title);
  put("text", { x: 4, y: top - EDGE.top + 32, fill: quiet }, y.title); // below the legend
  for (const trace of traces) root.append(...shapes(trace, across, up));
  rows.forEach((row, i) => legend(row, root, width, i * LEGEND_ROW));
  element.replaceChildren(root);
};

const shapes = ({ kind, x, y, bars = [], low, high, color: tone, width = 1, dash, symbol }, across, up) => {
  if (kind === "points") {
    const spreads = bars.map(([from, to], i) => ({ from, to, at: across(x[i]) })).filter(({ from }) => Number.isFinite(from)).map(({ from, to, at }) =>
      svg("line", { x1: at, x2: at, y1: up(from), y2: up(to), stroke: tone, "stroke-width": 2 }));
    return spreads.concat(x.map((value, i) => ({ value, at: y[i] })).filter(({ value, at }) => Number.isFinite(value) && Number.isFinite(at)).map(({ value, at }) =>
      symbol === "cross"
        ? svg("path", { d: `M${across(value) - 4},${up(at) - 4}l8,8m0,-8l-8,8`, stroke: tone, "stroke-width": 2, fill: "none" })
        : svg("circle", { cx: across(value), cy: up(at), r: 3.5, fill: tone, stroke: color("paper") })));
  }
  if (kind === "band") {
    const known = x.map((_, i) => i).filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
    const edge = [...known.map((i) => [x[i], high[i]]), ...known.toReversed().map((i) => [x[i], low[i]])];
    return edge.length ? [svg("path", { d: `M${edge.map(([a, b]) => `${across(a).toFixed(1)},${up(b).toFixed(1)}`).join("L")}Z`, fill: tone, "fill-opacity": 0.22 })] : [];
  }
  return [svg("path", { d: path(x, y, across, up), stroke: tone, "stroke-width": width, fill: "none", "stroke-linejoin": "round", ...(dash && { "stroke-dasharray": dash }) })];
};

/** A line through points, with a gap where one is missing. */
const path = (x, y, across, up) => {
  let [text, pen] = ["", "M"];
  x.forEach((value, i) => {
    if (!Number.isFinite(value) || !Number.isFinite(y[i])) return (pen = "M");
    text += `${pen}${across(value).toFixed(1)},${up(y[i]).toFixed(1)}`;
    pen = "L";
  });
  return text;
};

const [LETTER, SIGN, GAP, LEGEND_ROW] = [6.8, 24, 8, 18]; // pixels; of a letter, about

const legendWidth = ({ name }) => name.length * LETTER + SIGN;

/** Traces in the rows of the legend: as many in a row as fit. */
const legendRows = (traces, width) => {
  const rows = [];
  let free = 0;
  for (const trace of traces) {
    const wide = legendWidth(trace) + GAP;
    if (!rows.length || wide > free) {
      rows.push([]);
      free = width;
    }
    rows.at(-1).push(trace);
    free -= wide;
  }
  return rows;
};

const legend = (traces, root, width, down) => {
  let right = width - EDGE.right;
  for (const trace of traces.toReversed()) {
    const { name, kind, color: tone, dash } = trace;
    const start = right - legendWidth(trace);
    root.append(svg("text", { x: start + SIGN - 2, y: down + 14, fill: color("ink") }, name));
    if (kind === "points") root.append(svg("circle", { cx: start + 9, cy: down + 10, r: 4, fill: tone }));
    else root.append(svg("line", { x1: start, x2: start + 18, y1: down + 10, y2: down + 10, stroke: tone, "stroke-width": kind === "band" ? 10 : 3, ...(kind === "band" && { "stroke-opacity": 0.3 }), ...(dash && { "stroke-dasharray": dash }) }));
    right = start - GAP;
  }
};

const nearestPoint = ({ traces, across, up }, element, { clientX, clientY }) => {
  const box = element.getBoundingClientRect();
  let best = null;
  for (const trace of traces) {
    if (trace.kind === "band") continue;
    trace.x.forEach((value, i) => {
      const distance = Math.hypot(across(value) - clientX + box.left, up(trace.y[i]) - clientY + box.top);
      if (distance < (best?.distance ?? REACH)) best = { trace, i, distance };
    });
  }
  return best;
};

const point = (element, event) => {
  element.querySelector(".tip")?.remove();
  const chart = charts.get(element);
  const hit = nearestPoint(chart, element, event);
  element.style.cursor = hit && chart.onPick && hit.trace.pick !== undefined ? "pointer" : "";
  if (!hit) return;
  const { trace, i } = hit;
  const tip = Object.assign(document.createElement("div"), { className: "tip" });
  const across = chart.x.names?.[trace.x[i]] ?? trace.x[i].toFixed(chart.x.digits);
  tip.textContent = `${trace.labels?.[i] ?? trace.name}\n${chart.x.short ?? chart.x.title}: ${across}\n${chart.y.title}: ${trace.y[i].toFixed(chart.y.digits)}`;
  const [left, top] = [chart.across(trace.x[i]), chart.up(trace.y[i])];
  Object.assign(tip.style, { top: `${Math.max(top - 70, 0)}px`, ...(left > element.clientWidth / 2 ? { right: `${element.clientWidth - left + 10}px` } : { left: `${left + 10}px` }) });
  element.append(tip);
};
