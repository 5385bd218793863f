// The points of a surface. A grid is {convention, tenors, nodes}, as in the manifest; a surface is a flat list, tenor by tenor.
import { quantile } from "./normal.js";
import { local, read, refined, spline } from "./spline.js";

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
  const cubic = smileOf(grid, vols, tenor);
  if (tenors[later] === tenor) return points.map((k) => Math.sqrt(read(cubic, k)[0] / tenor));
  const [short, long] = [tenors[later - 1], tenors[later]];
  const [first, last] = [short, long].map((end) => smileOf(grid, vols, end));
  const smooth = rises(grid, vols, short, long);
  return points.map((k) => {
    const [before, after] = [read(first, k)[0], read(last, k)[0]];
    const line = before + ((tenor - short) / (long - short)) * (after - before);
    return Math.sqrt((smooth || Number.isNaN(line) ? read(cubic, k)[0] : line) / tenor);
  });
};

const LEAST_VARIANCE = 1e-12; // vol^2: a cubic may undershoot zero
const PARTS = 8; // of an interval between tenors, from each of which to the next total variance must rise
const ROUNDING = 1e-12; // of total variance

/** Whether cubic total variance rises from one tenor to another, where arbitrage of the first is measured. */
const rises = (grid, vols, short, long) => {
  const smiles = Array.from({ length: PARTS + 1 }, (_, i) => smileOf(grid, vols, i === PARTS ? long : short + ((long - short) * i) / PARTS));
  const points = refined(smiles[0].x);
  const variance = smiles.map((smile) => points.map((k) => read(smile, k)[0]));
  return !variance.slice(1).some((now, i) => now.some((w, j) => w - variance[i][j] < -ROUNDING));
};

/** The spline of total variance along k at a tenor inside the grid: the variances of a node are read by local cubics. */
const smileOf = ({ convention, tenors, nodes }, vols, tenor) => {
  const places = tenors.map(coordinate);
  const variances = nodes.map((_, j) =>
    Math.max(read(local(places, vols.map((smile) => smile[j] ** 2)), coordinate(tenor))[0], LEAST_VARIANCE));
  const k = logMoneyness({ convention, nodes, tenors: [tenor] }, variances.map(Math.sqrt))[0];
  const total = variances.map((variance) => variance * tenor);
  return convention === "delta" ? spline(k.toReversed(), total.toReversed()) : spline(k, total);
};

/** s / (1 + s), where s = sqrt(tenor). */
const coordinate = (tenor) => Math.sqrt(tenor) / (1 + Math.sqrt(tenor));

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
