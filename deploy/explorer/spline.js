// Piecewise cubics, as in vae/surface/spline.py: values and two derivatives, NaN outside the knots.

/** The not-a-knot spline through y at the increasing knots x. */
export const spline = (x, y) => ({ x, y, slope: slopes(x, y) });

/** The cubics whose slope at a knot is that of the parabola through it and its neighbours; a line through two knots. */
export const local = (x, y) => {
  const [h, chord] = differences(x, y);
  if (x.length === 2) return { x, y, slope: [chord[0], chord[0]] };
  const inner = h.slice(1).map((after, i) => (after * chord[i] + h[i] * chord[i + 1]) / (h[i] + after));
  return { x, y, slope: [2 * chord[0] - inner[0], ...inner, 2 * chord.at(-1) - inner.at(-1)] };
};

/** [value, first, second derivative] at a point. */
export const read = ({ x, y, slope }, point) => {
  const last = x.length - 1;
  if (!(point >= x[0] && point <= x[last])) return [NaN, NaN, NaN];
  let left = 0;
  while (left < last - 1 && point >= x[left + 1]) left++;
  const h = x[left + 1] - x[left];
  const chord = (y[left + 1] - y[left]) / h;
  const [m0, m1] = [slope[left], slope[left + 1]];
  const b = (3 * chord - 2 * m0 - m1) / h;
  const c = (m0 + m1 - 2 * chord) / (h * h);
  const t = point - x[left];
  return [y[left] + t * (m0 + t * (b + t * c)), m0 + t * (2 * b + 3 * t * c), 2 * b + 6 * t * c];
};

/** Widths of the intervals between knots, and the slopes of their chords. */
const differences = (x, y) => {
  const h = x.slice(1).map((after, i) => after - x[i]);
  return [h, h.map((width, i) => (y[i + 1] - y[i]) / width)];
};

const REFINEMENT = 5; // parts of each interval between knots

/** Knots with the points that divide each interval between them: there arbitrage of a smile is measured. */
export const refined = (knots) => {
  const points = [];
  for (let i = 0; i < knots.length - 1; i++) {
    for (let part = 0; part < REFINEMENT; part++) points.push(knots[i] + (knots[i + 1] - knots[i]) * (part / REFINEMENT));
  }
  return [...points, knots.at(-1)];
};

const slopes = (x, y) => {
  const n = x.length;
  const [h, chord] = differences(x, y);
  if (n === 2) return [chord[0], chord[0]];
  const rows = [[0, ...first(h, chord)]];
  for (let i = 1; i < n - 1; i++) {
    rows.push([h[i], 2 * (h[i - 1] + h[i]), h[i - 1], 3 * (h[i] * chord[i - 1] + h[i - 1] * chord[i])]);
  }
  const [diagonal, beside, target] = first([...h].reverse(), [...chord].reverse());
  rows.push([beside, diagonal, 0, target]);
  return solved(rows);
};

/** The condition at an end: the third derivative does not jump at the second knot; three knots give a parabola. */
const first = ([h0, h1], [c0, c1, c2]) =>
  c2 === undefined ? [1, 1, 2 * c0] : [h1, h0 + h1, (h1 * (3 * h0 + 2 * h1) * c0 + h0 * h0 * c1) / (h0 + h1)];

/** Solve a tridiagonal system with rows [before, diagonal, after, target]. */
const solved = (rows) => {
  for (let i = 1; i < rows.length; i++) {
    const factor = rows[i][0] / rows[i - 1][1];
    rows[i][1] -= factor * rows[i - 1][2];
    rows[i][3] -= factor * rows[i - 1][3];
  }
  const values = [];
  for (let i = rows.length - 1; i >= 0; i--) values[i] = (rows[i][3] - rows[i][2] * (values[i + 1] ?? 0)) / rows[i][1];
  return values;
};
