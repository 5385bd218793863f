// Scenarios of the next days as fans: the server draws them, by the model's law of motion.
import { drawChart } from "./chart.js";
import { color } from "./colors.js";
import { reader, tenorTitle } from "./grid.js";
import { marks } from "./marks.js";
import { at } from "./page.js";
import { quantiles } from "./quantiles.js";

const PATHS = 200;
const LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95];
const FANS = {
  atm: { title: "vol at the money, %", digits: 2 },
  rr25: { title: "25 delta risk reversal, vol points", digits: 2 },
  return: { title: "return of the underlying, %", digits: 2 },
};

/** Scenarios {paths, steps, values, withArbitrage}, where `values(path, day)` is {iv, logReturn}. */
export const drawn = async (model, days, seed, state) => {
  const body = JSON.stringify({ count: PATHS, days, seed, ...(state && { state }) });
  const answer = await model.post("scenarios", body, "application/octet-stream");
  const [paths, steps, width] = answer.headers.get("volvae-shape").split(",").map(Number);
  const numbers = new Float32Array(await answer.arrayBuffer());
  const values = (path, day) => {
    const own = numbers.subarray((path * steps + day) * width, (path * steps + day + 1) * width);
    return { logReturn: own[0], iv: own.subarray(2) };
  };
  let withArbitrage = 0;
  for (let place = 1; place < numbers.length; place += width) withArbitrage += 1 - numbers[place];
  return { paths, steps, values, withArbitrage };
};

/** What a fan shows at one tenor, in percent: [day][path]. */
const shown = (grid, { paths, steps, values }, what, tenor) =>
  Array.from({ length: steps }, (_, day) =>
    Array.from({ length: paths }, (_, path) => {
      const { iv, logReturn } = values(path, day);
      if (what === "return") return 100 * Math.expm1(logReturn);
      const smile = reader(grid, iv)(tenor);
      return smile ? 100 * marks(smile)[what] : NaN;
    }));

export const drawFan = (grid, scenarios, what, tenor) => {
  const found = shown(grid, scenarios, what, tenor).map((numbers) => quantiles(numbers, LEVELS));
  const x = found.map((_, i) => i + 1);
  const at5 = (i) => found.map((one) => one[i]);
  const traces = [
    { kind: "band", name: "90 %", x, low: at5(0), high: at5(4), color: color("blue"), legend: true },
    { kind: "band", name: "50 %", x, low: at5(1), high: at5(3), color: color("blue"), legend: true },
    { kind: "line", name: "median", x, y: at5(2), color: color("blue"), width: 3, legend: true },
  ];
  const title = what === "return" ? FANS[what].title : `${FANS[what].title}, ${tenorTitle(tenor)}`;
  drawChart(at("fan"), traces, { title: "working days", digits: 0 }, { title, digits: FANS[what].digits });
};
