// The figures, drawn with Plotly.
import { interval, logMoneyness, nodeTitle, rows, smileAt, tenorTitle } from "./grid.js";

const PERCENT = 100;
const CONFIG = { displayModeBar: false, responsive: true };
const FONT = { family: "system-ui, sans-serif", size: 12 };
const EYE = { x: 1.6, y: -1.6, z: 0.9 };
const solid = (() => {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"));
})();

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The surface in three dimensions; a map if the browser has no WebGL. */
export const drawSurface = (element, grid, iv) => {
  const z = rows(grid, iv).map((row) => row.map((vol) => PERCENT * vol));
  const hover = `${nodeTitle(grid)} %{x:.3f}<br>tenor %{y:.3f} years<br>vol %{z:.2f} %<extra></extra>`;
  const trace = { x: grid.nodes, y: grid.tenors, z, colorscale: "Viridis", hovertemplate: hover };
  const titles = { x: { title: { text: nodeTitle(grid) } }, y: { title: { text: "tenor, years" } } };
  const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, font: FONT, uirevision: "kept" };
  if (solid) {
    const axes = { xaxis: titles.x, yaxis: titles.y, zaxis: { title: { text: "vol, %" } } };
    const scene = { ...axes, aspectmode: "cube", camera: { eye: EYE }, uirevision: "kept" };
    return Plotly.react(element, [{ ...trace, type: "surface", showscale: false }], { ...layout, scene }, CONFIG);
  }
  const margin = { l: 50, r: 10, t: 10, b: 45 };
  return Plotly.react(element, [{ ...trace, type: "heatmap" }], { ...layout, margin, xaxis: titles.x, yaxis: titles.y }, CONFIG);
};

/** Smiles of all tenors; the chosen one has its interval and the quotes nearest to it, with dotted smiles at their tenors. */
export const drawSmiles = (element, grid, { iv, std }, chosen, quotes) => {
  const k = logMoneyness(grid, iv);
  const smiles = rows(grid, iv);
  const line = (i, style) => ({
    x: k[i], y: smiles[i].map((vol) => PERCENT * vol), mode: "lines", name: tenorTitle(grid.tenors[i]), showlegend: false,
    hovertemplate: "k %{x:.3f}<br>vol %{y:.2f} %", line: style,
  });
  const traces = smiles.map((_, i) => line(i, { color: color("grey"), width: 0.7 }));
  if (std) {
    const [low, high] = interval(iv, std).map((ends) => rows(grid, ends)[chosen].map((vol) => PERCENT * vol));
    traces.push({
      x: [...k[chosen], ...k[chosen].toReversed()], y: [...low, ...high.toReversed()], fill: "toself", mode: "lines", line: { width: 0 },
      fillcolor: `${color("blue")}33`, name: "90 % interval", hoverinfo: "skip",
    });
  }
  traces.push({ ...line(chosen, { color: color("blue"), width: 3 }), showlegend: Boolean(quotes) });
  if (quotes) {
    const here = quotes.iv.map((_, i) => i).filter((i) => nearest(grid, quotes.tenor[i]) === chosen);
    const own = new Set(here.filter((i) => quotes.used[i]).map((i) => quotes.tenor[i]));
    own.delete(grid.tenors[chosen]);
    for (const tenor of own) traces.push(dotted(grid, iv, tenor, k[chosen]));
    traces.push(points(quotes, here.filter((i) => quotes.used[i]), "quotes", { color: color("ink"), size: 8 }));
    traces.push(points(quotes, here.filter((i) => !quotes.used[i]), "out of reach", { color: color("red"), size: 9, symbol: "x" }));
  }
  const layout = {
    margin: { l: 50, r: 10, t: 10, b: 45 }, font: FONT, hovermode: "closest",
    xaxis: { title: { text: "k = ln(K/F)" }, zeroline: false }, yaxis: { title: { text: "vol, %" }, zeroline: false },
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1, yanchor: "top", bgcolor: "#ffffffaa" },
  };
  return Plotly.react(element, traces, layout, CONFIG);
};

/** Index of the nearest tenor. */
export const nearest = ({ tenors }, years) =>
  tenors.reduce((best, tenor, i) => (Math.abs(tenor - years) < Math.abs(tenors[best] - years) ? i : best), 0);

/** The interpolated smile at a tenor of quotes that is not one of the grid. */
const dotted = (grid, iv, tenor, k) => ({
  x: k, y: smileAt(grid, iv, tenor, k).map((vol) => PERCENT * vol), mode: "lines", name: tenorTitle(tenor),
  line: { color: color("orange"), width: 2, dash: "dot" }, hovertemplate: "k %{x:.3f}<br>vol %{y:.2f} %",
});

const points = ({ logMoneyness: k, iv, tenor }, which, name, marker) => ({
  x: which.map((i) => k[i]), y: which.map((i) => PERCENT * iv[i]), text: which.map((i) => tenorTitle(tenor[i])),
  mode: "markers", name, marker, showlegend: which.length > 0, hovertemplate: "k %{x:.3f}<br>vol %{y:.2f} %<br>%{text}",
});
