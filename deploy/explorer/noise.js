// The noise of quotes that do not fit the model, and why: the rules of vae/quote_noise.py.

export const LEAST_P = 0.005;
export const MISFIT_OF_WEIGHTS = "the quotes do not fit the model at the noise that their weights state: either that is larger, " +
  "or the surface lies outside of what the model learned; intervals are wider by the misfit";
const SURELY_FITS = 0.05;
const [ROBUST_STEPS, STEPS, FEWEST_OF_MEDIAN] = [3, 6, 20];
const MEDIAN_SQUARE = 0.455;
const [FAR, WILD] = [3, 5];
const [FEWEST, MOST, NAMED] = [10, 1000, 3];
const STRETCHES = [[1, 1], [4, 1], [1, 4]];
const SHARED = 0.1;
const BASIS_POINTS = 1e4;

/**
 * {weight, noise, wild, cause} of quotes {iv, tenor, logMoneyness}; `complete` promises {fitted, fittedStd, used, pValue}
 * of the surface with these weights, and `known` is the noise that the model learned.
 */
export const estimate = async (complete, { iv, tenor, logMoneyness }, known) => {
  let [trust, ratio, error, isUsed] = [iv.map(() => 1), 1, [], []];
  for (let step = 0; step <= STEPS; step++) {
    const fit = await complete(trust.map((one) => one / ratio));
    isUsed = fit.used;
    const used = iv.map((_, i) => i).filter((i) => isUsed[i]);
    error = iv.map((vol, i) => (vol - fit.fitted[i]) / known);
    const square = error.map((one, i) => one ** 2 + (fit.fittedStd[i] / known) ** 2);
    const robust = step <= ROBUST_STEPS && used.length >= FEWEST_OF_MEDIAN;
    ratio = Math.max(1, robust ? median(used.map((i) => square[i])) / MEDIAN_SQUARE : mean(used.map((i) => trust[i] * square[i])));
    trust = error.map((one) => Math.min(1, (FAR ** 2 * ratio) / Math.max(one ** 2, 1)));
  }
  const wild = error.map((one, i) => isUsed[i] && one ** 2 > WILD ** 2 * ratio);
  const kept = wild.map((one) => Number(!one));
  if (wild.some(Boolean) && (await complete(kept)).pValue >= SURELY_FITS) return { weight: kept, noise: known, wild, cause: "none" };
  const used = iv.map((_, i) => i).filter((i) => isUsed[i]);
  const places = used.map((i) => [Math.log(tenor[i]), logMoneyness[i] / Math.sqrt(tenor[i])]);
  const cause = causeOf(used.map((i) => Math.sqrt(trust[i]) * error[i]), places);
  return { weight: trust.map((one) => one / ratio), noise: known * Math.sqrt(ratio), wild, cause };
};

/** Why the quotes do not fit, in one sentence. */
export const warning = ({ noise, wild, cause }, quotes, known) => {
  const size = `${(BASIS_POINTS * noise).toFixed(1)} bp, ${(noise / known).toFixed(1)} times the noise that the model learned`;
  if (cause === "none") return `the model fits all quotes but the wild ones, which are left out: ${named(quotes, wild)}`;
  const also = wild.some(Boolean) ? `; quotes that are wild beside that: ${named(quotes, wild)}` : "";
  if (cause === "noise") return `the quotes are noisy: their errors are independent and ${size}; intervals are wider by that${also}`;
  if (cause === "shape") {
    return "the surface lies outside of what the model learned: neighbouring quotes miss it alike, by about " +
      `${size}; intervals are wider by that${also}`;
  }
  return `the quotes do not fit the model: their errors are about ${size}; so few quotes do not tell noise from a ` +
    `shape that the model did not learn; intervals are wider by that${also}`;
};

const causeOf = (errors, places) => {
  if (errors.length < FEWEST) return "unknown";
  const step = Math.ceil(errors.length / MOST);
  const [error, place] = [errors, places].map((values) => values.filter((_, i) => i % step === 0));
  const size = [0, 1].map((axis) => Math.max(deviation(place.map((one) => one[axis])), 1e-9));
  const shared = STRETCHES.map((stretch) => correlation(error, place.map((one) => one.map((value, axis) => (value / size[axis]) * stretch[axis]))));
  return Math.max(...shared) > SHARED ? "shape" : "noise";
};

/** Mean product of the errors and those of their nearest neighbours, by their mean square: Moran's I. */
const correlation = (error, place) => {
  const count = Math.min(4, Math.floor(error.length / 5));
  const products = place.flatMap(([x, y], i) => {
    const others = place.map(([u, v], j) => ({ j, distance: j === i ? Infinity : (x - u) ** 2 + (y - v) ** 2 }));
    return others.sort((a, b) => a.distance - b.distance).slice(0, count).map(({ j }) => error[i] * error[j]);
  });
  return mean(products) / mean(error.map((one) => one ** 2));
};

const named = ({ iv, tenor, logMoneyness }, wild) => {
  const rows = wild.flatMap((one, i) => (one ? [i] : []));
  const names = rows.slice(0, NAMED).map((i) => `iv ${iv[i].toFixed(4)} at ${tenor[i].toFixed(3)} years, k = ${logMoneyness[i].toFixed(3)}`);
  return names.join(", ") + (rows.length > NAMED ? ` and ${rows.length - NAMED} more` : "");
};

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) => {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
};
const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : 0.5 * (sorted[half - 1] + sorted[half]);
};
