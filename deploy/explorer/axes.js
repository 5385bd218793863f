// The axes along a smile: what a point k = ln(K/F) with total variance w at a tenor is called on each.
import { callDelta } from "./black.js";

export const AXES = {
  k: { name: "log-moneyness", title: () => "k = ln(K/F)", digits: 3, of: (k) => k },
  scaled: { name: "k / √tenor", title: () => "ln(K/F) / √tenor", digits: 3, of: (k, w, tenor) => k / Math.sqrt(tenor) },
  strike: {
    name: "strike", title: (forward) => `strike, forward ${+forward.toPrecision(8)}`, digits: 2,
    of: (k, w, tenor, forward) => forward * Math.exp(k),
  },
  delta: { name: "call delta", title: () => "forward call delta", digits: 3, reversed: true, of: (k, w) => callDelta(w, k) }, // strikes rise to the right
};

/** Coordinates of points k of a smile on an axis. */
export const coordinates = (axis, smile, points, forward) =>
  points.map((k) => AXES[axis].of(k, smile.at(k)[0], smile.tenor, forward));
