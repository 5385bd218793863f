// The quantities that the figures show, read from a smile of grid.js.
import { density } from "./black.js";

const PERCENT = 100;

export const QUANTITIES = {
  vol: { title: "vol, %", digits: 2, of: ([w], k, tenor) => PERCENT * Math.sqrt(w / tenor) },
  variance: { title: "total variance", digits: 5, of: ([w]) => w },
  density: { title: "density of ln(S/F)", digits: 3, of: density },
};

/** Values of a quantity at points k of a smile. */
export const values = (quantity, smile, points) => points.map((k) => QUANTITIES[quantity].of(smile.at(k), k, smile.tenor));

/** Points k from end to end of a smile. */
export const along = ({ low, high }, count) =>
  Array.from({ length: count }, (_, i) => (i === count - 1 ? high : low + ((high - low) * i) / (count - 1)));
