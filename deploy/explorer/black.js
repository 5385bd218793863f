// Black's formula per unit of the forward, in terms of total variance w and k = ln(K/F).
import { cdf } from "./normal.js";

/** Price of a call. */
export const callPrice = (w, k) => {
  const deviation = Math.sqrt(w);
  const d1 = -k / deviation + 0.5 * deviation;
  return cdf(d1) - Math.exp(k) * cdf(d1 - deviation);
};

/** Forward delta N(d1) of a call. */
export const callDelta = (w, k) => cdf(-k / Math.sqrt(w) + 0.5 * Math.sqrt(w));

/** Durrleman's g of [w, first, second derivative]; negative where a butterfly costs less than nothing. */
export const durrleman = ([w, slope, curvature], k) =>
  (1 - (0.5 * k * slope) / w) ** 2 - 0.25 * slope * slope * (1 / w + 0.25) + 0.5 * curvature;

/** Density of ln(S/F) at k: g exp(-d2^2 / 2) / sqrt(2 pi w), by Gatheral and Jacquier (2014), equation 2.2. */
export const density = (smile, k) => {
  const [w] = smile;
  const d2 = -k / Math.sqrt(w) - 0.5 * Math.sqrt(w);
  return (durrleman(smile, k) * Math.exp(-0.5 * d2 * d2)) / Math.sqrt(2 * Math.PI * w);
};
