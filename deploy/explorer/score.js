// How common a surface is among held-out surfaces: the percentiles of vae/bundle_model.py, and a verdict in words.

const ODD = 99.5; // percentile

/** Percentiles {fit, rarity, error} of the outputs of the scorer; null for a surface with too few points. */
export const ranks = (scores, { misfit, distance, error }) => {
  const points = error.length;
  if (points < scores.fewest_points) return null;
  const largest = error.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
  return {
    fit: percentile(scores.misfit_a_point, misfit / points),
    rarity: percentile(scores.distance, distance),
    error: percentile(scores.largest_error, largest),
  };
};

/** The percentile of a value among quantiles at equal levels, as numpy.interp gives it. */
const percentile = (quantiles, value) => {
  const last = quantiles.length - 1;
  if (value <= quantiles[0]) return 0;
  if (value >= quantiles[last]) return 100;
  let right = 1;
  while (quantiles[right] <= value) right++;
  return (100 / last) * (right - 1 + (value - quantiles[right - 1]) / (quantiles[right] - quantiles[right - 1]));
};

/** {text, good}: whether a surface without noise, as the page shows them, is like those that the model learned. */
export const verdict = (found) => {
  if (!found) return { text: "too few points for a verdict", good: false };
  const reasons = [
    found.fit > ODD && "the model fits it worse",
    found.rarity > ODD && "its latents are farther out",
    found.error > ODD && "one of its points is farther off",
  ].filter(Boolean);
  if (reasons.length) return { text: `unlike what the model learned: ${reasons.join(" and ")} than of ${ODD} % of held-out surfaces`, good: false };
  const rarer = 100 - found.rarity;
  return { text: `like what the model learned: ${rarer < 1 ? rarer.toFixed(1) : Math.round(rarer)} % of held-out surfaces are rarer`, good: true };
};
