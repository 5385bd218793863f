// The points of a surface. A grid is {convention, tenors, nodes}, as in the manifest; a surface is a flat list, tenor by tenor.
import { quantile } from "./normal.js";
import { read, spline } from "./spline.js";

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

/** Vols at any tenor: total variance is linear between tenors at equal k; NaN outside the domain of the surface. */
export const smileAt = (grid, iv, tenor, points) => {
  const { tenors, convention } = grid;
  const later = tenors.findIndex((one) => one >= tenor);
  if (later < 0 || (later === 0 && tenors[0] !== tenor)) return points.map(() => NaN);
  const [k, vols] = [logMoneyness(grid, iv), rows(grid, iv)];
  const curve = (i) => {
    const variance = vols[i].map((vol) => vol * vol * tenors[i]);
    return convention === "delta" ? spline(k[i].toReversed(), variance.toReversed()) : spline(k[i], variance);
  };
  const after = curve(later);
  if (tenors[later] === tenor) return points.map((point) => Math.sqrt(read(after, point)[0] / tenor));
  const before = curve(later - 1);
  const weight = (tenor - tenors[later - 1]) / (tenors[later] - tenors[later - 1]);
  return points.map((point) => Math.sqrt(((1 - weight) * read(before, point)[0] + weight * read(after, point)[0]) / tenor));
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
