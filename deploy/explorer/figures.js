// The two figures of a surface: in three dimensions, and its smiles. All curves are read as every other reader does.
import { AXES, coordinates } from "./axes.js";
import { drawChart } from "./chart.js";
import { color } from "./colors.js";
import { Z90, logMoneyness, nearest, reader, rows, tenorTitle } from "./grid.js";
import { QUANTITIES, along, values } from "./quantities.js";
import { drawRelief } from "./relief.js";
import { read, spline } from "./spline.js";

const POINTS = 121; // of a smile
const [MESH_POINTS, MESH_ROWS] = [33, 24]; // of a smile in the surface, and smiles in it at least

/** The surface; `others` are {name, iv, tone} of the surfaces behind it, of which the first is drawn. */
export const drawSurface = (element, grid, { iv }, settings, others, quotes) => {
  const behind = others.length ? { mesh: mesh(grid, others[0].iv, settings), tone: others[0].tone } : null;
  const marks = grid.tenors.map((tenor) => ({ at: Math.sqrt(tenor), text: tenorTitle(tenor) }));
  const titles = { x: { title: AXES[settings.axis].name, reversed: AXES[settings.axis].reversed }, y: { title: "tenor", marks }, z: { title: QUANTITIES[settings.quantity].title } };
  drawRelief(element, mesh(grid, iv, settings), titles, behind, dots(grid, quotes, settings));
  element.data = rows(grid, iv);
};

/** Rows of points {x, y, z} of smiles at tenors and between them; `own` marks the tenors of the grid. */
const mesh = (grid, iv, { axis, quantity, forward }) => {
  const smile = reader(grid, iv);
  return refinedTenors(grid.tenors).map(({ tenor, own }) => ({ found: smile(tenor), own })).filter(({ found }) => found).map(({ found, own }) => {
    const points = along(found, MESH_POINTS);
    const [x, z] = [coordinates(axis, found, points, forward), values(quantity, found, points)];
    return points.map((_, i) => ({ x: x[i], y: Math.sqrt(found.tenor), z: z[i], own }));
  });
};

const refinedTenors = (tenors) => {
  const parts = Math.max(2, Math.ceil(MESH_ROWS / tenors.length));
  return tenors.flatMap((tenor, i) =>
    Array.from({ length: i + 1 < tenors.length ? parts : 1 }, (_, part) => ({
      tenor: part ? (Math.sqrt(tenor) + (part / parts) * (Math.sqrt(tenors[i + 1]) - Math.sqrt(tenor))) ** 2 : tenor,
      own: part === 0,
    })));
};

const dots = (grid, quotes, settings) => {
  if (!quotes || settings.quantity === "density") return [];
  return quotes.iv.map((_, i) => i).filter((i) => quotes.used[i]).map((i) => {
    const { x, y } = placed(quotes, i, settings);
    return { x, y: Math.sqrt(quotes.tenor[i]), z: y, tone: quotes.wild?.[i] ? "red" : "ink" };
  });
};

/** Where a quote lies in the figure of smiles; low and high are its bid and ask. */
const placed = ({ logMoneyness: k, iv, tenor, bid, ask }, i, { axis, quantity, forward }) => {
  const height = (vol) => QUANTITIES[quantity].of([vol ** 2 * tenor[i]], k[i], tenor[i]);
  const x = AXES[axis].of(k[i], iv[i] ** 2 * tenor[i], tenor[i], forward);
  return { x, y: height(iv[i]), ...(bid && { low: height(bid[i]), high: height(ask[i]) }) };
};

/**
 * Smiles of all tenors; the chosen one has its interval, the smiles of `others` and the quotes nearest to it, with dotted
 * smiles at their tenors. A click on a smile calls `onPick` with the place of its tenor.
 */
export const drawSmiles = (element, grid, { iv, std }, settings, chosen, others, quotes, onPick) => {
  const { axis, quantity, forward } = settings;
  const smile = reader(grid, iv);
  const curve = (found, name, style) => {
    const points = along(found, POINTS);
    return { kind: "line", name, x: coordinates(axis, found, points, forward), y: values(quantity, found, points), ...style };
  };
  const all = grid.tenors.map((tenor, pick) => ({ found: smile(tenor), pick })).filter(({ found }) => found);
  const traces = all.map(({ found, pick }) => curve(found, tenorTitle(found.tenor), { color: color("grey"), width: 1, pick }));
  const found = smile(grid.tenors[chosen]);
  if (found && std && quantity !== "density") traces.push(band(grid, iv, std, chosen, found, settings));
  for (const other of others) {
    const behind = reader(grid, other.iv)(grid.tenors[chosen]);
    if (behind) traces.push(curve(behind, other.name, { color: color(other.tone), width: 2, dash: "6 4", legend: true }));
  }
  if (found) traces.push(curve(found, tenorTitle(found.tenor), { color: color("blue"), width: 3, legend: true }));
  if (quotes) traces.push(...quoted(grid, smile, curve, settings, chosen, quotes));
  const x = { title: AXES[axis].title(forward), short: AXES[axis].name, digits: AXES[axis].digits, reversed: AXES[axis].reversed };
  const { title, digits } = QUANTITIES[quantity];
  drawChart(element, traces, x, { title, digits }, onPick);
};

/** The 90 % interval of the chosen smile: its standard deviations are a spline through those of the nodes. */
const band = (grid, iv, std, chosen, found, { axis, quantity, forward }) => {
  const [k, deviations] = [logMoneyness(grid, iv)[chosen], rows(grid, std)[chosen]];
  const cubic = grid.convention === "delta" ? spline(k.toReversed(), deviations.toReversed()) : spline(k, deviations);
  const points = along(found, POINTS);
  const ends = [-1, 1].map((sign) =>
    points.map((one) => {
      const vol = Math.sqrt(found.at(one)[0] / found.tenor) + sign * Z90 * Math.max(read(cubic, one)[0], 0);
      return vol > 0 ? QUANTITIES[quantity].of([vol ** 2 * found.tenor], one, found.tenor) : NaN;
    }));
  return { kind: "band", name: "90 % interval", x: coordinates(axis, found, points, forward), low: ends[0], high: ends[1], color: color("blue"), legend: true };
};

const SAME = 1e-5; // years between two names of one tenor, such as 30 days and 0.082192

const quoted = (grid, smile, curve, settings, chosen, quotes) => {
  const here = quotes.iv.map((_, i) => i).filter((i) => nearest(grid, quotes.tenor[i]) === chosen);
  const used = here.filter((i) => quotes.used[i]);
  const own = [...new Set(used.map((i) => quotes.tenor[i]))].filter((tenor) => Math.abs(tenor - grid.tenors[chosen]) > SAME);
  const traces = own.map(smile).filter(Boolean).map((found) =>
    curve(found, tenorTitle(found.tenor), { color: color("orange"), width: 2, dash: "2 4", legend: true }));
  if (settings.quantity === "density") return traces;
  const points = (which, name, style) => {
    const found = which.map((i) => placed(quotes, i, settings));
    return { kind: "points", name, x: found.map(({ x }) => x), y: found.map(({ y }) => y), bars: found.map(({ low, high }) => [low, high]), legend: which.length > 0, labels: which.map((i) => `${name}, ${tenorTitle(quotes.tenor[i])}`), ...style };
  };
  const isWild = (i) => quotes.wild?.[i] ?? false;
  traces.push(points(used.filter((i) => !isWild(i)), "quotes", { color: color("ink") }));
  traces.push(points(used.filter(isWild), "wild", { color: color("red"), symbol: "cross" }));
  traces.push(points(here.filter((i) => !quotes.used[i]), "out of reach", { color: color("red"), symbol: "cross" }));
  return traces;
};
