// Round numbers along an axis.

/** At most about `most` multiples of 1, 2 or 5 times a power of ten between two numbers. */
export const ticks = (low, high, most) => {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(10));
  return found;
};

/** The least and the largest finite number, with a margin of a share on both sides; [0, 1] without any. */
export const range = (numbers, margin = 0) => {
  let [low, high] = [Infinity, -Infinity];
  for (const one of numbers) {
    if (!Number.isFinite(one)) continue;
    low = Math.min(low, one);
    high = Math.max(high, one);
  }
  if (low > high) return [0, 1];
  const width = high > low ? high - low : Math.abs(low) || 1;
  return [low - margin * width, high + margin * width];
};
