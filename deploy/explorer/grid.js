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

/**
 * The reader of a surface: its smile at any tenor, as vae/surface/interpolation.py reads it. A smile is
 * {tenor, low, high, at}, where at(k) is [total variance, first, second derivative by k], NaN outside low to high; null
 * outside the tenors, and where vols or strikes are out of order, so that there is no smile.
 */
export const reader = (grid, iv) => {
  const { tenors } = grid;
  const vols = rows(grid, iv);
  if (!vols.flat().every((vol) => vol > 0 && vol < Infinity)) return () => null;
  const places = tenors.map(coordinate);
  const terms = grid.nodes.map((_, j) => local(places, vols.map((smile) => smile[j] ** 2))); // variances of each node
  const smooth = tenors.map(() => null); // whether total variance rises to the next tenor, measured when it is asked
  return (tenor) => {
    const later = tenors.findIndex((one) => one >= tenor);
    if (later < 0 || !(tenor >= tenors[0])) return null;
    const cubic = smileOf(grid, terms, tenor);
    if (!rising(cubic.x)) return null;
    const smile = { tenor, low: cubic.x[0], high: cubic.x.at(-1), at: (k) => read(cubic, k) };
    if (tenors[later] === tenor) return smile;
    const [short, long] = [tenors[later - 1], tenors[later]];
    const [first, last] = [short, long].map((end) => smileOf(grid, terms, end));
    if ((smooth[later] ??= rises(grid, terms, short, long))) return smile;
    const share = (tenor - short) / (long - short);
    return { ...smile, at: (k) => (k >= smile.low && k <= smile.high ? onALine(first, last, share, k) : [NaN, NaN, NaN]) };
  };
};

/** Vols at any tenor; NaN outside the domain of the surface. */
export const smileAt = (grid, iv, tenor, points) => {
  const smile = reader(grid, iv)(tenor);
  return points.map((k) => (smile ? Math.sqrt(smile.at(k)[0] / tenor) : NaN));
};

/** A point on the line between two smiles; beyond the end of one, what the other changes from there is added to the line. */
const onALine = (first, last, share, k) => {
  const [low, high] = [Math.max(first.x[0], last.x[0]), Math.min(first.x.at(-1), last.x.at(-1))];
  const [before, after] = [first, last].map((curve) => kept(curve, k, low, high));
  const [own, other] = [first, last].map((curve) => kept(curve, k, curve.x[0], curve.x.at(-1)));
  return before.map((value, i) => value + share * (after[i] - value) + (own[i] - value) + (other[i] - after[i]));
};

/** A curve read from low to high, and beyond these kept as it is there. */
const kept = (curve, k, low, high) => (k >= low && k <= high ? read(curve, k) : [read(curve, k < low ? low : high)[0], 0, 0]);

const rising = (x) => x.every((value, i) => i === 0 || value > x[i - 1]);

const LEAST_VARIANCE = 1e-12; // vol^2: a cubic may undershoot zero
const PARTS = 8; // of an interval between tenors, from each of which to the next total variance must rise
const ROUNDING = 1e-12; // of total variance

/** Whether cubic total variance rises from one tenor to another, where arbitrage of the first is measured. */
const rises = (grid, terms, short, long) => {
  const smiles = Array.from({ length: PARTS + 1 }, (_, i) => smileOf(grid, terms, i === PARTS ? long : short + ((long - short) * i) / PARTS));
  const points = refined(smiles[0].x);
  const variance = smiles.map((smile) => points.map((k) => read(smile, k)[0]));
  return !variance.slice(1).some((now, i) => now.some((w, j) => w - variance[i][j] < -ROUNDING));
};

/** The spline of total variance along k at a tenor inside the grid, from the local cubics of the variances of each node. */
const smileOf = ({ convention, nodes }, terms, tenor) => {
  const variances = terms.map((term) => Math.max(read(term, coordinate(tenor))[0], LEAST_VARIANCE));
  const k = logMoneyness({ convention, nodes, tenors: [tenor] }, variances.map(Math.sqrt))[0];
  const total = variances.map((variance) => variance * tenor);
  return convention === "delta" ? spline(k.toReversed(), total.toReversed()) : spline(k, total);
};

/** s / (1 + s), where s = sqrt(tenor). */
const coordinate = (tenor) => Math.sqrt(tenor) / (1 + Math.sqrt(tenor));

/** A tenor in days, with a digit where it is no whole number of them, or in years. */
export const tenorTitle = (years) => (years < 1.95 ? `${+(years * DAYS).toFixed(1)} days` : `${+years.toFixed(2)} years`);

export const Z90 = 1.6449; // half-width of a 90 % interval in standard deviations

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

/** Index of the nearest tenor. */
export const nearest = ({ tenors }, years) =>
  tenors.reduce((best, tenor, i) => (Math.abs(tenor - years) < Math.abs(tenors[best] - years) ? i : best), 0);

/** The vols of a surface that `csv` wrote, which must be on this grid. */
export const readCsv = (grid, text) => {
  const [header, ...lines] = text.trim().split(/\r?\n/).map((line) => line.split(","));
  const [tenor, iv] = ["tenor_years", "iv"].map((name) => header.indexOf(name));
  const place = header.indexOf(grid.convention === "delta" ? "call_delta" : "log_moneyness");
  if (tenor < 0 || iv < 0 || place < 0) throw new Error("this is no surface as the explorer or `volvae complete` saves it");
  if (lines.length !== grid.tenors.length * grid.nodes.length) throw new Error(`the file has ${lines.length} points, but the grid of this model ${grid.tenors.length * grid.nodes.length}`);
  const vols = lines.map((line, i) => {
    const vol = Number(line[iv]);
    if (!(vol > 0 && vol < Infinity)) throw new Error(`row ${i + 1}: iv is "${line[iv]}"; it must be a positive number`);
    return vol;
  });
  const k = grid.convention === "delta" ? grid.tenors.map(() => grid.nodes) : logMoneyness(grid, vols);
  lines.forEach((line, i) => {
    const [row, column] = [Math.floor(i / grid.nodes.length), i % grid.nodes.length];
    const far = Math.max(Math.abs(Number(line[tenor]) - grid.tenors[row]), Math.abs(Number(line[place]) - k[row][column]));
    if (!(far < 1e-6)) throw new Error(`row ${i + 1} is at another point than the grid of this model`);
  });
  return Float32Array.from(vols);
};
