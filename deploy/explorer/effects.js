// What a latent does to a surface, in the desk's numbers and in words.
import { reader } from "./grid.js";
import { marks } from "./marks.js";

const SMALL = 0.25; // of the largest effect of a latent; less is not said
const WORDS = {
  level: ["level higher", "level lower"],
  term: ["long end up", "short end up"],
  skew: ["calls dearer", "puts dearer"],
  wings: ["wings higher", "wings lower"],
};

/** Half the changes from one surface to another in vol points, {level, term, skew, wings}; NaN where one cannot be read. */
export const effects = (grid, before, after) => {
  const read = (iv) => {
    const smile = reader(grid, iv);
    const each = grid.tenors.map((tenor) => smile(tenor)).map((one) => (one ? marks(one) : { atm: NaN, rr25: NaN, bf25: NaN }));
    const atm = each.map((one) => one.atm);
    const middle = each[each.length >> 1];
    return { level: atm.reduce((sum, one) => sum + one, 0) / atm.length, term: atm.at(-1) - atm[0], skew: middle.rr25, wings: middle.bf25 };
  };
  const [low, high] = [read(before), read(after)];
  return Object.fromEntries(Object.keys(WORDS).map((name) => [name, 50 * (high[name] - low[name])])); // half of it, in percent
};

/** The larger effects in words. */
export const inWords = (found) => {
  const known = Object.entries(found).filter(([, size]) => Number.isFinite(size)).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const large = known.filter(([, size]) => Math.abs(size) >= SMALL * Math.abs(known[0][1]) && Math.abs(size) >= 0.005);
  return large.length ? large.map(([name, size]) => `${WORDS[name][size > 0 ? 0 : 1]} ${Math.abs(size).toFixed(2)}`).join(", ") : "moves no quoted number by much";
};
