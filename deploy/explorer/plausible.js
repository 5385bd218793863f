// The rules of vae/surface/plausible.py for quotes, with the numbers that the server states, so that both refuse the same.

/** An Error says why these are no decimal vols, tenors in years and k = ln(K/F); rows are counted from 1. */
export const check = (limits, { tenor, logMoneyness, iv }) => {
  checkVols(limits, iv);
  checkTenors(limits, tenor);
  checkLogMoneyness(limits, logMoneyness);
};

const checkVols = ({ median_vol: [low, high], each_vol: [lowest, highest], vol_units }, vols) => {
  const middle = median(vols);
  if (!(middle >= low && middle <= high)) {
    const readings = Object.entries(vol_units).filter(([, size]) => size * middle >= low && size * middle <= high);
    const remedy = readings.map(([unit, size]) => `; in ${unit} it would be ${percent(size * middle)}: divide by ${short(1 / size)}`);
    throw new Error(`the median vol ${short(middle)} is ${percent(middle)}, but must be within ${percent(low)} and ${percent(high)}${remedy.join("")}`);
  }
  const wrong = vols.findIndex((vol) => vol < lowest || vol > highest);
  if (wrong >= 0) {
    throw new Error(`row ${wrong + 1}: the vol ${vols[wrong]} is no quote beside a median of ${short(middle)}: ` +
      `allowed are ${percent(lowest)} to ${percent(highest)}; leave it out`);
  }
};

const checkTenors = ({ longest_tenor }, tenors) => {
  const longest = Math.max(...tenors);
  if (longest > longest_tenor) throw new Error(`the tenor ${short(longest)} is more than ${longest_tenor} years; name the column days if these are days`);
};

const checkLogMoneyness = ({ largest_k, moneyness: [low, high], fewest }, k) => {
  const middle = median(k);
  if (Math.abs(middle) > largest_k) {
    throw new Error(`the median of ln(K/F) is ${short(middle)}, but must be within -${largest_k} and ${largest_k}: strike and forward are in different units`);
  }
  const spread = median(k.map(Math.abs));
  if (spread > largest_k) {
    throw new Error(`the median of |ln(K/F)| is ${short(spread)}, but must be at most ${largest_k}; in percent it would be ${short(0.01 * spread)}: divide by 100`);
  }
  if (k.length >= fewest && Math.min(...k) > low && Math.max(...k) < high) {
    throw new Error(`log-moneyness from ${short(Math.min(...k))} to ${short(Math.max(...k))} has no quote near the money, which is 0: it looks like K/F; take its logarithm`);
  }
};

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : 0.5 * (sorted[half - 1] + sorted[half]);
};

const short = (value) => String(+value.toPrecision(6));
const percent = (value) => `${short(100 * value)} %`;
