// The points of a surface. A grid is {convention, tenors, nodes}, as in the manifest; a surface is a flat list, tenor by tenor.
import { quantile } from "./normal.js";
import { local, read, spline } from "./spline.js";

export const DAYS = 365; // per year (ACT/365)

/** k = ln(K/F) of each point, [tenor][node]; on a grid in deltas k depends on the vols. */
export const logMoneyness = ({ convention, tenors, nodes }, iv) =>
  tenors.map((tenor, i) =>
    nodes.map((node, j) => {
      if (convention === "log_moneyness") return node;
      if (convention === "sqrt_time") return node * Math.sqrt(tenor);
      return ofDelta(node, iv[i * nodes.length + j] * Math.sqrt(tenor));
    }),
  );

/** Log-moneyness of a call delta N(d1) at a total volatility. */
export const ofDelta = (delta, deviation) => deviation * (0.5 * deviation - quantile(delta));

/** The rows of a flat surface, [tenor][node]. */
export const rows = ({ nodes }, flat) =>
  Array.from({ length: flat.length / nodes.length }, (_, i) => Array.from(flat.slice(i * nodes.length, (i + 1) * nodes.length)));

/** Vols at any tenor, read as vae/surface/interpolation.py does; NaN outside the domain of the surface. */
export const smileAt = (grid, iv, tenor, points) => {
  const { tenors } = grid;
  const later = tenors.findIndex((one) => one >= tenor);
  if (later < 0 || tenor < tenors[0]) return points.map(() => NaN);
  const vols = rows(grid, iv);
  if (tenors[later] === tenor) return points.map(readerOf(grid, tenor, vols[later])).map((w) => Math.sqrt(w / tenor));
  const [shorter, longer] = [later - 1, later].map((i) => readerOf(grid, tenors[i], vols[i]));
  const between = readerOf(grid, tenor, smileBetween(grid, vols, tenor));
  return points.map((k) => Math.sqrt(held(between(k), shorter(k), longer(k)) / tenor));
};

/** Vols of the nodes at a tenor between two of the grid: the variances of a node are read by local cubics. */
const smileBetween = ({ tenors, nodes }, vols, tenor) =>
  nodes.map((_, j) => {
    const variances = vols.map((smile) => smile[j] ** 2);
    return Math.sqrt(Math.max(read(local(tenors.map(coordinate), variances), coordinate(tenor))[0], LEAST_VARIANCE));
  });

const LEAST_VARIANCE = 1e-12; // vol^2: a cubic may undershoot zero

/** s / (1 + s), where s = sqrt(tenor). */
const coordinate = (tenor) => Math.sqrt(tenor) / (1 + Math.sqrt(tenor));

/** Total variance as a function of k for the vols of the nodes at a tenor. */
const readerOf = ({ convention, nodes }, tenor, vols) => {
  const k = logMoneyness({ convention, nodes, tenors: [tenor] }, vols)[0];
  const variance = vols.map((vol) => vol * vol * tenor);
  const smile = convention === "delta" ? spline(k.toReversed(), variance.toReversed()) : spline(k, variance);
  return (point) => read(smile, point)[0];
};

/** A total variance held between those of two tenors, each of which may be NaN: so no calendar arbitrage is added. */
const held = (variance, shorter, longer) => {
  const [low, high] = [Number.isNaN(shorter) ? -Infinity : shorter, Number.isNaN(longer) ? Infinity : longer];
  return Math.min(Math.max(variance, Math.min(low, high)), Math.max(low, high));
};

export const nodeTitle = ({ convention }) =>
  ({ sqrt_time: "k / sqrt(tenor)", log_moneyness: "k = ln(K/F)", delta: "call delta" })[convention];

export const tenorTitle = (years) => (years < 1.95 ? `${Math.round(years * DAYS)} days` : `${+years.toFixed(2)} years`);

const Z90 = 1.6449; // half-width of a 90 % interval in standard deviations

/** The ends of the 90 % interval of each vol. */
export const interval = (iv, std) => [-1, 1].map((sign) => Array.from(iv, (vol, i) => vol + sign * Z90 * std[i]));

/** A surface in the columns of `volvae complete`; std may be missing. */
export const csv = (grid, { iv, std }) => {
  const [low, high] = std ? interval(iv, std) : [];
  const inDeltas = grid.convention === "delta";
  const lines = [["tenor_years", "log_moneyness", ...(inDeltas ? ["call_delta"] : []), "iv", ...(std ? ["std", "low_90", "high_90"] : [])].join(",")];
  logMoneyness(grid, iv).forEach((smile, i) =>
    smile.forEach((k, j) => {
      const at = i * smile.length + j;
      const values = [grid.tenors[i], k, ...(inDeltas ? [grid.nodes[j]] : []), iv[at], ...(std ? [std[at], low[at], high[at]] : [])];
      lines.push(values.map((value) => +value.toPrecision(8)).join(","));
    }),
  );
  return lines.join("\n") + "\n";
};
