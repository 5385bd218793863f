// The numbers by which a desk quotes a smile: at the money, risk reversals and butterflies.
import { callDelta } from "./black.js";

const STEPS = 60; // of the bisection, which ends in the last bits
const SCAN = 200; // points among which the first crossing is looked for

/** k where the forward call delta is this one; NaN if the smile does not reach it. */
export const strikeOfDelta = (smile, delta) => {
  const excess = (k) => callDelta(smile.at(k)[0], k) - delta; // falls along k
  const step = (smile.high - smile.low) / SCAN;
  let [left, right] = [smile.low, NaN];
  if (!(excess(left) >= 0)) return NaN;
  for (let i = 1; i <= SCAN; i++) {
    right = i === SCAN ? smile.high : smile.low + i * step;
    if (excess(right) <= 0) break;
    left = right;
  }
  if (!(excess(right) <= 0)) return NaN;
  for (let i = 0; i < STEPS; i++) {
    const middle = 0.5 * (left + right);
    if (excess(middle) > 0) left = middle;
    else right = middle;
  }
  return 0.5 * (left + right);
};

const vol = (smile, k) => Math.sqrt(smile.at(k)[0] / smile.tenor);

/**
 * {atm, rr25, bf25, rr10, bf10} of a smile, decimal; NaN where it does not reach. At the money is K = F; a risk reversal
 * is the vol of the call less that of the put, a butterfly their mean less the vol at the money.
 */
export const marks = (smile) => {
  const atm = vol(smile, 0);
  const wings = [0.25, 0.1].map((delta) => {
    const [call, put] = [delta, 1 - delta].map((one) => vol(smile, strikeOfDelta(smile, one)));
    return [call - put, 0.5 * (call + put) - atm];
  });
  return { atm, rr25: wings[0][0], bf25: wings[0][1], rr10: wings[1][0], bf10: wings[1][1] };
};
