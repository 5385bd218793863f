// The normal distribution: N(x) to 1e-14 by Hart (1968), algorithm 5666; its inverse by Newton steps on it.
const NUMERATOR = [
  3.52624965998911e-2, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871, 221.213596169931,
  220.206867912376,
];
const DENOMINATOR = [
  8.83883476483184e-2, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674, 637.333633378831,
  793.826512519948, 440.413735824752,
];

const polynomial = (coefficients, x) => coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);

export const cdf = (x) => {
  const size = Math.min(Math.abs(x), 40);
  const tail = (Math.exp(-0.5 * size * size) * polynomial(NUMERATOR, size)) / polynomial(DENOMINATOR, size);
  return x > 0 ? 1 - tail : tail;
};

/** x with N(x) = p, for p inside (0, 1). */
export const quantile = (p) => {
  if (p > 0.5) return -quantile(1 - p); // the small tail keeps its digits there
  let x = -Math.sqrt(Math.max(0, -2 * Math.log(2 * p))); // N(x) <= exp(-x^2 / 2) / 2: left of the solution,
  for (let step = 0; step < 100; step++) {
    // and from the left Newton's steps on ln N, which is concave, never overshoot
    const tail = cdf(x);
    const move = (Math.log(tail / p) * tail * Math.sqrt(2 * Math.PI)) / Math.exp(-0.5 * x * x);
    x -= move;
    if (Math.abs(move) < 1e-14 * (1 + Math.abs(x))) break;
  }
  return x;
};
