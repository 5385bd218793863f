// Static arbitrage of a complete surface, measured as vae/surface/arbitrage.py does; a test compares the two.
import { callPrice, durrleman } from "./black.js";
import { logMoneyness, rows } from "./grid.js";
import { read, refined, spline } from "./spline.js";

const MEANINGFUL_PRICE = 1e-6; // in units of the forward; below it an option is worth nothing
const LEAST_VARIANCE = 1e-12;
const STEEPEST_WING = 2;

/** Tolerance of each kind: prices in units of the forward, density as -g, wings as |dw/dk| over 2. */
export const TOLERANCE = { calendar: 1e-6, vertical: 1e-6, butterfly: 1e-6, density: 1e-3, wing: 1e-3 };

/** The largest violation of each kind: {size, tenor, k}, size 0 for none; null if the surface is unusable. */
export const violations = (grid, iv) => {
  const k = logMoneyness(grid, iv);
  if (grid.convention === "delta") k.forEach((smile) => smile.reverse());
  const rising = k.every((smile) => smile.every((value, j) => j === 0 || value > smile[j - 1]));
  if (!rising || !iv.every((vol) => vol > 0 && vol < Infinity)) return null;
  const smiles = rows(grid, iv).map((vols, i) => smileOf(k[i], grid.convention === "delta" ? vols.reverse() : vols, grid.tenors[i]));
  const found = Object.fromEntries(Object.keys(TOLERANCE).map((kind) => [kind, { size: 0, tenor: null, k: null }]));
  const note = (kind, smile) => (size, point) => {
    if (size > found[kind].size) found[kind] = { size, tenor: smile.tenor, k: smile.points[point] };
  };
  smiles.forEach((smile, i) => {
    vertical(smile, note("vertical", smile));
    wing(smile, note("wing", smile));
    if (smile.curve.x.length > 2) {
      butterfly(smile, note("butterfly", smile));
      density(smile, note("density", smile));
    }
    if (i + 1 < smiles.length) calendar(smile, smiles[i + 1], note("calendar", smile));
  });
  return found;
};

const smileOf = (k, vols, tenor) => {
  const curve = spline(k, vols.map((vol) => vol * vol * tenor));
  const points = refined(k);
  const values = points.map((point) => read(curve, point));
  const variance = values.map(([value]) => Math.max(value, LEAST_VARIANCE));
  return {
    tenor,
    curve,
    points,
    variance,
    slope: values.map(([, slope]) => slope),
    curvature: values.map(([, , curvature]) => curvature),
    strike: points.map(Math.exp),
    price: variance.map((value, i) => callPrice(value, points[i])),
  };
};

/** By how much a call of the longer tenor costs less. */
const calendar = ({ points, variance, price }, long, note) =>
  points.forEach((k, i) => {
    const [later] = read(long.curve, k);
    if (later < variance[i]) note(price[i] - callPrice(Math.max(later, LEAST_VARIANCE), k), i);
  });

/** By how much a call costs more than one at a lower strike, or a put less. */
const vertical = ({ strike, price }, note) => {
  let [leastCall, mostPut] = [Infinity, -Infinity];
  price.forEach((call, i) => {
    const put = call + strike[i];
    leastCall = Math.min(leastCall, call);
    mostPut = Math.max(mostPut, put);
    note(Math.max(call - leastCall, mostPut - put), i);
  });
};

/** By how much a call costs more than the chord between two others, 1, 2, 4, ... points away on both sides. */
const butterfly = ({ strike, price }, note) => {
  for (let reach = 1; 2 * reach < price.length; reach *= 2) {
    for (let i = reach; i + reach < price.length; i++) {
      const weight = (strike[i + reach] - strike[i]) / (strike[i + reach] - strike[i - reach]);
      note(price[i] - weight * price[i - reach] - (1 - weight) * price[i + reach], i);
    }
  }
};

/** -g, Durrleman's function, where options have a meaningful price. */
const density = ({ points, variance, slope, curvature, strike, price }, note) =>
  points.forEach((k, i) => {
    if (price[i] - Math.max(1 - strike[i], 0) < MEANINGFUL_PRICE) return;
    note(-durrleman([variance[i], slope[i], curvature[i]], k), i);
  });

/** The excess of |dw/dk| over Lee's bound at both ends. */
const wing = ({ slope }, note) => [0, slope.length - 1].forEach((i) => note(Math.abs(slope[i]) - STEEPEST_WING, i));
