// Quantiles of numbers.

/** The quantiles of finite numbers at levels, linear between them as those of numpy.quantile. */
export const quantiles = (numbers, levels) => {
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b);
  return levels.map((level) => {
    const place = level * (sorted.length - 1);
    const left = Math.floor(place);
    const right = Math.min(left + 1, sorted.length - 1);
    return sorted.length ? sorted[left] + (place - left) * (sorted[right] - sorted[left]) : NaN;
  });
};
